"""Get the IAM database from its official server, and unpack it.

One registers at fki.tic.heia-fr.ch in a browser (free of charge, for non-commercial research) and logs in by a form
with the fields `email` and `password`; the paths are the server's own. Nothing of the credentials is written anywhere,
and none of it gets into a message.
"""

import contextlib
import gzip
import json
import os
import re
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from hwr import Error
from hwr.datasets.iam import LISTS

if TYPE_CHECKING:
    import requests

BASE_URL = "https://fki.tic.heia-fr.ch"
# What one asks for -> its archives: path on the server, and the folder that it is unpacked to.
PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "xml": (("DBs/iamDB/data/xml.tgz", "xml"),),
    "lines": (("DBs/iamDB/data/lines.tgz", "lines"),),
    "words": (("DBs/iamDB/data/words.tgz", "words"),),
    "forms": tuple((f"DBs/iamDB/data/forms{x}.tgz", f"forms{x}") for x in ("A-D", "E-H", "I-Z")),
    "ascii": (("DBs/iamDB/data/ascii.tgz", "ascii"),),
    "lists": ((f"static/zip/{LISTS}.zip", LISTS),),
}
DEFAULT_PARTS = ("xml", "lines", "ascii", "lists")
MARKER = ".complete"  # in a folder: its archive is wholly unpacked

_MAGIC = {".tgz": b"\x1f\x8b", ".zip": b"PK\x03\x04"}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CHUNK = 1 << 16  # bytes
_TIMEOUT = (30, 60)  # seconds to connect, seconds of silence
# Well above what IAM has (its words are 115,320 files), well below what would harm.
_MAX_FILES = 200_000
_MAX_FILE_BYTES = 256 << 20
_MAX_BYTES = 20 << 30


class _TryAgain(Exception):
    """The connection was cut or the server is overloaded; the message says which."""


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
    """Download parts of IAM into `root` and unpack them there. Run again after an interruption, it goes on.

    Args:
        root: The dataset's folder; made if it does not exist. Archives on their way are in its `archives` folder.
        email: Of one's account on the server.
        password: Of that account.
        base_url: The server. HTTPS; plain HTTP is for this machine alone, as in tests.
        parts: Some of `xml`, `lines`, `words`, `forms`, `ascii`, `lists`.
        keep_archives: Leave the archives in `root/archives`.
        progress: Show a bar per archive.
        tries: How often an archive is asked for in a row without a byte of it coming.
        pause: Seconds before the second of these tries; it doubles with each.

    Returns:
        The folders that are now complete, also those that were so before.

    Raises:
        Error: Wrong e-mail or password, the network, a full disk, a damaged or hostile archive; says which, and where.
    """
    import requests

    base = _check_base(base_url)
    if unknown := [part for part in parts if part not in PARTS]:
        raise Error(f"parts: there is no {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    if not email or not password:
        raise Error(f"e-mail and password are needed: register at {base}, it costs nothing")
    root, folders = Path(root), []
    store = root / "archives"
    with _saying(root):
        store.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        # Proxies and .netrc from the environment are not for this machine's own server.
        session.trust_env = urlsplit(base).hostname not in _LOOPBACK
        for path, name in (archive for part in dict.fromkeys(parts) for archive in PARTS[part]):
            folder, archive = root / name, store / path.rpartition("/")[2]
            if not (folder / MARKER).is_file():
                if not archive.is_file():
                    login = {"email": email, "password": password}
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
    scheme, host, _ = _origin(url)
    if not host or not (scheme == "https" or (scheme == "http" and host in _LOOPBACK)):
        raise Error(f"base_url: {url}: should begin with https://, as the password is sent there")
    return url.rstrip("/")


@contextlib.contextmanager
def _saying(place: Path) -> Iterator[None]:
    """A file system's refusal (disk full, no permission) as an Error that names the place."""
    try:
        yield
    except gzip.BadGzipFile:  # an OSError too, but about the archive that is read
        raise
    except OSError as error:
        raise Error(
            f"{place}: could not be written: {error.strerror or error}. What is downloaded so far is kept: put that "
            "right and run it again"
        ) from error


# --- The network ---


def _send(session: "requests.Session", method: str, url: str, **more: object) -> "requests.Response":
    """Send a request and follow redirects, but only within the same scheme, host and port.

    An answer to POST that names another page to look at is not followed: what counts is the cookie that it sets.
    """
    import requests

    for _ in range(5):
        try:
            response = session.request(method, url, allow_redirects=False, timeout=_TIMEOUT, stream=True, **more)  # type: ignore[arg-type]
        except requests.exceptions.SSLError as error:
            raise Error(f"{url}: no secure connection: {error}") from None
        except ValueError as error:  # requests parses the place of a redirect, even if it isn't to go there
            raise Error(f"{url}: the address, or the server's answer, is malformed ({type(error).__name__})") from None
        except requests.RequestException as error:
            # Not chained: the exception holds the request, and so the password.
            raise _TryAgain(f"{url}: no answer ({type(error).__name__})") from None
        if not response.is_redirect or (method == "POST" and response.status_code not in (307, 308)):
            return response
        response.close()
        target = urljoin(url, response.headers["location"])
        if _origin(target) != _origin(url):
            raise Error(f"{url}: redirects to {target}, another place: refused")
        url = target
    raise Error(f"{url}: redirects without end")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        raise Error(f"{url}: malformed address") from None


def _log_in(session: "requests.Session", base: str, login: dict[str, str]) -> None:
    """Send the login form. Whether it worked is seen by what comes instead of an archive: the page itself says 200."""
    with _send(session, "GET", f"{base}/login") as page:
        fields = _hidden_fields(_text(page)) if page.ok else {}
    with _send(session, "POST", f"{base}/login", data={**fields, **login}) as answer:
        if answer.status_code in (401, 403):
            raise _refused(base, f"{base}/login")
        if answer.status_code >= 400:
            failure = f"{base}/login: status {answer.status_code}"
            raise _TryAgain(failure) if _passing(answer.status_code) else Error(failure)


def _text(page: "requests.Response") -> bytes:
    """A page's content, up to 1 MiB."""
    import requests

    content = b""
    try:
        for chunk in page.iter_content(_CHUNK):
            content += chunk
            if len(content) > 1 << 20:
                break
    except requests.RequestException as error:
        raise _TryAgain(f"{page.url}: the connection was cut ({type(error).__name__})") from None
    return content


def _passing(status: int) -> bool:
    """Whether it may be otherwise in a while: time-outs, too many requests, the server's own failures."""
    return status in (408, 425, 429) or status >= 500


def _hidden_fields(page: bytes) -> dict[str, str]:
    """The hidden fields of a login form, as a token against forged requests is one."""
    from lxml import etree

    root = etree.HTML(page, etree.HTMLParser(no_network=True)) if page.strip() else None
    inputs = [] if root is None else root.iter("input")
    return {str(i.get("name")): str(i.get("value", "")) for i in inputs if i.get("type") == "hidden"}


def _refused(base: str, url: str) -> Error:
    return Error(
        f"wrong e-mail or password: {url} was refused, or answered with a web page. Try them in a browser at "
        f"{base}/login"
    )


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
    """Download one archive to `target` by way of `target.part`, going on where a cut connection left it."""
    part = target.with_name(f"{target.name}.part")
    failures, most = 0, _size(part)
    while True:
        try:
            _log_in(session, base, login)
            _attempt(session, base, f"{base}/{path}", part, _MAGIC[target.suffix], progress)
            break
        except _TryAgain as error:
            failures = failures + 1 if _size(part) <= most else 1
            most = max(most, _size(part))
            if failures >= tries:
                raise Error(f"{error}. Tried {tries} times; what is there is kept, so run it again later") from None
        time.sleep(pause * 2 ** (failures - 1))
    with _saying(target):
        os.replace(part, target)
        _sidecar(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sidecar(part: Path) -> Path:
    """What the server said of the file's version, so that no two versions are glued together."""
    return part.with_name(f"{part.name}.json")


def _remembered(part: Path, url: str) -> str | None:
    try:
        said = json.loads(_sidecar(part).read_text(encoding="utf-8"))
        return said["version"] if said["url"] == url and isinstance(said["version"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _version(response: "requests.Response") -> str | None:
    """What may stand in If-Range: a strong ETag, or else the date of the last change (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _attempt(session: "requests.Session", base: str, url: str, part: Path, magic: bytes, progress: bool) -> None:
    have, version = _size(part), _remembered(part, url)
    if version is None:
        have = 0
    # "identity": some servers call a .tgz a gzip-encoded tar, and the sizes must be the archive's own.
    headers = {"Accept-Encoding": "identity"}
    if have and version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    with _send(session, "GET", url, headers=headers) as response:
        match response.status_code:
            case 200:
                have, size = 0, _length(response.headers.get("Content-Length"))
            case 206 if have:
                have, size = _resumed(response, url, part, have, version)
            case 416 if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # the whole of that version is here already
            case 401 | 403:
                raise _refused(base, url)
            case 206 | 416:
                _forget(part)
                raise _TryAgain(f"{url}: is another file than before")
            case status if _passing(status):
                raise _TryAgain(f"{url}: status {status}")
            case status:
                raise Error(f"{url}: status {status}; has the server changed its layout?")
        chunks = _chunks(response, url)
        first = next(chunks, b"")
        # Before the first byte is written, so that a login page does not cost what is there.
        if "text/html" in response.headers.get("Content-Type", "") or (have == 0 and first.lstrip()[:1] == b"<"):
            raise _refused(base, url)
        if have == 0 and first and not first.startswith(magic):
            raise Error(
                f"{url}: is not a {'zip' if magic[:1] == b'P' else 'gzip'} archive: it begins with {first[:8]!r}"
            )
        if size is not None and (free := shutil.disk_usage(part.parent).free) < size - have:
            raise Error(
                f"{part}: disk full: {size - have:,} bytes are to come and {free:,} are free; make room, run it again"
            )
        if have == 0:
            with _saying(part):
                _start(part, url, _version(response))
        _write(part, first, chunks, have, size, progress)
    if size is not None and (got := _size(part)) != size:
        if got > size:
            _forget(part)
        raise _TryAgain(f"{url}: {got:,} bytes of {size:,} came")
    if not first:
        raise _TryAgain(f"{url}: nothing came")


def _length(header: str | None) -> int | None:
    return int(header) if header and header.isdecimal() else None


def _resumed(
    response: "requests.Response", url: str, part: Path, have: int, version: str | None
) -> tuple[int, int | None]:
    """Check that an answer of status 206 is the rest of what is here: where it begins and the whole size, in bytes."""
    span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not span or int(span[1]) != have or _version(response) not in (None, version):
        _forget(part)
        raise _TryAgain(f"{url}: the server sent another piece than the one asked for")
    return have, _length(span[3])


def _chunks(response: "requests.Response", url: str) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    while True:
        try:
            chunk = response.raw.read(_CHUNK, decode_content=False)
        except (HTTPError, OSError) as error:
            raise _TryAgain(f"{url}: the connection was cut ({type(error).__name__})") from None
        if not chunk:
            return
        yield chunk


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _sidecar(part).unlink(missing_ok=True)


def _start(part: Path, url: str, version: str | None) -> None:
    """Empty the file, then note the new version: never old bytes with a new version's name."""
    part.write_bytes(b"")
    if version is None:
        _sidecar(part).unlink(missing_ok=True)
    else:
        _sidecar(part).write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")


def _write(part: Path, first: bytes, chunks: Iterator[bytes], have: int, size: int | None, progress: bool) -> None:
    from tqdm import tqdm

    name = part.name.removesuffix(".part")
    bar = tqdm(desc=name, total=size, initial=have, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress)
    with bar, _saying(part), open(part, "ab") as file:
        while first:
            file.write(first)
            bar.update(len(first))
            first = next(chunks, b"")


# --- Archives ---


def unpack(archive: Path, folder: Path, *, progress: bool = False) -> int:
    """Unpack a .tgz or .zip into `folder`; files that are there stay unless the archive has them too.

    A top folder in the archive that is named like `folder` is left away. It goes into a folder beside first, and a
    marker tells that `folder` is complete, so an interrupted unpacking is done anew.

    Returns:
        The number of files.

    Raises:
        Error: Damaged (the archive is then deleted, to be downloaded anew); or it has links, devices, paths that lead
            out of the folder, or absurd sizes (it is then kept, to look at).
    """
    from tqdm import tqdm

    real = folder.resolve()  # a link to another disk is followed: files are moved within one disk only
    temporary = real.with_name(f".unpacking-{real.name}")
    with _saying(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    count = total = 0
    try:
        with contextlib.closing(members(archive)) as contents:
            for name, size, source in tqdm(contents, desc=f"unpack {archive.name}", unit="file", disable=not progress):
                count, total = count + 1, total + size
                if count > _MAX_FILES or size > _MAX_FILE_BYTES or total > _MAX_BYTES:
                    raise Error(f"{archive}: {name}: larger than IAM can be (file {count:,}, {total:,} bytes): refused")
                _write_member(source, size, temporary / _inner_path(archive, name, folder.name), archive)
        if not count:
            raise Error(f"{archive}: has no files in it; delete it and run it again")
        with _saying(folder):
            (temporary / MARKER).write_text(f"{archive.name}: {count} files\n", encoding="utf-8")
            _merge(temporary, real)
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, NotImplementedError) as error:
        archive.unlink(missing_ok=True)
        raise Error(f"{archive}: damaged ({error}), so it was deleted; run it again to get it anew") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def _inner_path(archive: Path, name: str, folder: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or re.search(r"[\\:\x00-\x1f]", name):
        raise Error(f"{archive}: {name!r} would lead out of its folder: refused")
    own_top = len(path.parts) > 1 and path.parts[0].lower() == folder.lower()
    return PurePosixPath(*path.parts[1:]) if own_top else path


def _tar_members(archive: Path) -> Generator[tuple[str, int, IO[bytes]], None, None]:
    with gzip.open(archive, "rb") as stream:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if member.isdir():
                    continue
                source = tar.extractfile(member) if member.isreg() else None
                if source is None:
                    raise Error(f"{archive}: {member.name!r} is a link or a device: refused")
                yield member.name, member.size, source
        # tarfile stops at a header that it can't read: the end of the stream has the checksum of it all.
        while stream.read(_CHUNK):
            pass


def _zip_members(archive: Path) -> Generator[tuple[str, int, IO[bytes]], None, None]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if info.flag_bits & 1 or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
                raise Error(f"{archive}: {info.filename!r} is a link, a device or encrypted: refused")
            with file.open(info) as source:
                yield info.filename, info.file_size, source


def _write_member(source: IO[bytes], size: int, path: Path, archive: Path) -> None:
    with _saying(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            while chunk := source.read(_CHUNK):
                size -= len(chunk)
                if size < 0:
                    raise Error(f"{archive}: {path.name} is longer than it says: refused")
                file.write(chunk)
    if size:
        raise EOFError(f"{path.name} is cut short")


def _merge(source: Path, folder: Path) -> None:
    """Put the unpacked files into `folder`: by one rename where there is no such folder, the marker last otherwise."""
    if not folder.exists():
        source.rename(folder)
        return
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.name != MARKER)
    for path in [*files, source / MARKER]:
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
