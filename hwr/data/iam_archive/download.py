"""Download the IAM database from its official server.

Users register at fki.tic.heia-fr.ch in a browser (free of charge, for non-commercial research). The paths are the
server's.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hwr import Error
from hwr.data.formats.iam import LISTS
from hwr.data.iam_archive.server import TryAgain, chunks_of, is_passing, log_in, origin, refused, send
from hwr.data.iam_archive.unpack import MARKER, unpack, writing

if TYPE_CHECKING:
    import requests

BASE_URL = "https://fki.tic.heia-fr.ch"
# Part -> its archives: the path on the server, and the folder to unpack to.
PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "xml": (("DBs/iamDB/data/xml.tgz", "xml"),),
    "lines": (("DBs/iamDB/data/lines.tgz", "lines"),),
    "words": (("DBs/iamDB/data/words.tgz", "words"),),
    "forms": tuple((f"DBs/iamDB/data/forms{x}.tgz", f"forms{x}") for x in ("A-D", "E-H", "I-Z")),
    "ascii": (("DBs/iamDB/data/ascii.tgz", "ascii"),),
    "lists": ((f"static/zip/{LISTS}.zip", LISTS),),
}
DEFAULT_PARTS = ("xml", "lines", "ascii", "lists")

_MAGIC = {".tgz": b"\x1f\x8b", ".zip": b"PK\x03\x04"}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def download(
    root: Path,
    email: str,
    password: str,
    *,
    base_url: str = BASE_URL,
    parts: Sequence[str] = DEFAULT_PARTS,
    keep_archives: bool = False,
    progress: bool = True,
    tries: int = 6,
    pause: float = 2.0,
) -> list[Path]:
    """Download parts of IAM into `root` and unpack them there. After an interruption, run it again to continue.

    Args:
        root: The dataset's folder; made if it does not exist. Archives are downloaded to its `archives` folder.
        email: Of the user's account on the server.
        password: Of that account.
        base_url: The server. HTTPS; plain HTTP is for this machine only, as in tests.
        parts: Some of `xml`, `lines`, `words`, `forms`, `ascii`, `lists`.
        keep_archives: Keep the archives in `root/archives`.
        progress: Show bars, if the output is a terminal.
        tries: How many times in a row to ask for an archive without receiving a byte of it.
        pause: Seconds before the second of these tries; doubled with each.

    Returns:
        The folders that are complete, including those that were complete before.

    Raises:
        Error: Wrong e-mail or password, the network, a full disk, a damaged or hostile archive; says which, and where.
    """
    import requests

    base = _check_base(base_url)
    if unknown := [part for part in parts if part not in PARTS]:
        raise Error(f"parts: unknown {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    if not email or not password:
        raise Error(f"e-mail and password are needed; registration at {base} is free")
    login = {"email": email, "password": password}
    root, folders = Path(root), list[Path]()
    store = root / "archives"
    with writing(root):
        store.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        # A server on this machine needs no proxies or .netrc from the environment.
        session.trust_env = urlsplit(base).hostname not in _LOOPBACK
        for path, name in (archive for part in dict.fromkeys(parts) for archive in PARTS[part]):
            folder, archive = root / name, store / path.rpartition("/")[2]
            if not (folder / MARKER).is_file():
                if not archive.is_file():
                    _fetch(session, base, path, archive, login, progress, tries, pause)
                unpack(archive, folder, progress=progress)
            if not keep_archives:
                archive.unlink(missing_ok=True)
            folders.append(folder)
    if not any(store.iterdir()):
        store.rmdir()
    return folders


def _check_base(url: str) -> str:
    if "@" in url:
        raise Error("base_url: has credentials in it; give them as e-mail and password")
    scheme, host, _ = origin(url)
    if not host or not (scheme == "https" or (scheme == "http" and host in _LOOPBACK)):
        raise Error(f"base_url: {url}: must start with https://, because the password is sent there")
    return url.rstrip("/")


def _fetch(
    session: "requests.Session",
    base: str,
    path: str,
    target: Path,
    login: dict[str, str],
    progress: bool,
    tries: int,
    pause: float,
) -> None:
    """Download one archive to `target` via `target.part`, continuing after a cut connection."""
    part = target.with_name(f"{target.name}.part")
    failures, most = 0, _size(part)
    while True:
        try:
            log_in(session, base, login)
            _attempt(session, base, f"{base}/{path}", part, _MAGIC[target.suffix], progress)
            break
        except TryAgain as error:
            failures = failures + 1 if _size(part) <= most else 1
            most = max(most, _size(part))
            if failures >= tries:
                raise Error(
                    f"{error}. Tried {tries} times; finished downloads are kept, so run it again later"
                ) from None
        time.sleep(pause * 2 ** (failures - 1))
    with writing(target):
        os.replace(part, target)
        _sidecar(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sidecar(part: Path) -> Path:
    """The file with the server's version of the archive, so that two versions are never joined."""
    return part.with_name(f"{part.name}.json")


def _remembered(part: Path, url: str) -> str | None:
    try:
        said = json.loads(_sidecar(part).read_text(encoding="utf-8"))
        return said["version"] if said["url"] == url and isinstance(said["version"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _version(response: "requests.Response") -> str | None:
    """A value for If-Range: a strong ETag, or else the date of the last change (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _attempt(session: "requests.Session", base: str, url: str, part: Path, magic: bytes, progress: bool) -> None:
    """Ask once for an archive, or for the part of it that is missing here."""
    version = _remembered(part, url)
    have = _size(part) if version else 0
    # "identity": some servers call a .tgz a gzip-encoded tar, and the sizes must be the archive's own.
    headers = {"Accept-Encoding": "identity"}
    if version and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    with send(session, "GET", url, headers=headers) as response:
        match response.status_code:
            case 200:
                have, size = 0, _length(response.headers.get("Content-Length"))
            case 206 if have:
                span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
                if not span or int(span[1]) != have or _version(response) not in (None, version):
                    _forget(part)
                    raise TryAgain(f"{url}: the server sent another piece than the one asked for")
                size = _length(span[2])
            case 416 if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # the whole of that version is here already
            case 401 | 403:
                raise refused(base, url)
            case 206 | 416:
                _forget(part)
                raise TryAgain(f"{url}: is another file than before")
            case status if is_passing(status):
                raise TryAgain(f"{url}: status {status}")
            case status:
                raise Error(f"{url}: status {status}; has the server changed its layout?")
        chunks = chunks_of(response)
        first = next(chunks, b"")
        # Checked before the first byte is written, so that a login page overwrites nothing.
        if "text/html" in response.headers.get("Content-Type", "") or (have == 0 and first.lstrip()[:1] == b"<"):
            raise refused(base, url)
        if have == 0 and first and not first.startswith(magic):
            raise Error(
                f"{url}: is not a {'zip' if magic[:1] == b'P' else 'gzip'} archive: it starts with {first[:8]!r}"
            )
        if size is not None and (free := shutil.disk_usage(part.parent).free) < size - have:
            raise Error(
                f"{part}: disk full: {size - have:,} bytes are needed and {free:,} are free; make room, run it again"
            )
        if have == 0:
            with writing(part):
                _start(part, url, _version(response))
        _write(part, first, chunks, have, size, progress)
    if size is not None and (got := _size(part)) != size:
        if got > size:
            _forget(part)
        raise TryAgain(f"{url}: {got:,} bytes of {size:,} came")
    if not first:
        raise TryAgain(f"{url}: nothing came")


def _length(header: str | None) -> int | None:
    return int(header) if header and header.isdecimal() else None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _sidecar(part).unlink(missing_ok=True)


def _start(part: Path, url: str, version: str | None) -> None:
    """Empty the file, then note the new version, so that old bytes never bear a new version."""
    part.write_bytes(b"")
    if version is None:
        _sidecar(part).unlink(missing_ok=True)
    else:
        _sidecar(part).write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")


def _write(part: Path, first: bytes, chunks: Iterator[bytes], have: int, size: int | None, progress: bool) -> None:
    from tqdm import tqdm

    name, disable = part.name.removesuffix(".part"), None if progress else True
    bar = tqdm(desc=name, total=size, initial=have, unit="B", unit_scale=True, unit_divisor=1024, disable=disable)
    with bar, writing(part), open(part, "ab") as file:
        while first:
            file.write(first)
            bar.update(len(first))
            first = next(chunks, b"")
