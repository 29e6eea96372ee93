"""Get the IAM database from its official server.

One registers at fki.tic.heia-fr.ch in a browser (free of charge, for non-commercial research) and logs in by a form
with the fields `email` and `password`; the paths are the server's own. Nothing of the credentials is written anywhere,
and none of it gets into a message.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from hwr import Error
from hwr.data.formats.iam import LISTS
from hwr.data.iam_archive.unpack import MARKER, unpack, writing

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

_MAGIC = {".tgz": b"\x1f\x8b", ".zip": b"PK\x03\x04"}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CHUNK = 1 << 16  # bytes
_TIMEOUT = (30, 60)  # seconds to connect, seconds of silence


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
        progress: Show bars, if the output is a terminal.
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
    login = {"email": email, "password": password}
    root, folders = Path(root), list[Path]()
    store = root / "archives"
    with writing(root):
        store.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        # Proxies and .netrc from the environment are not for this machine's own server.
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
    scheme, host, _ = _origin(url)
    if not host or not (scheme == "https" or (scheme == "http" and host in _LOOPBACK)):
        raise Error(f"base_url: {url}: should begin with https://, as the password is sent there")
    return url.rstrip("/")


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
        # A login page is small: what is beyond 1 MiB is not looked at.
        content = b"".join(islice(_chunks(page, decode=True), 16)) if page.ok else b""
    with _send(session, "POST", f"{base}/login", data={**_hidden_fields(content), **login}) as answer:
        if answer.status_code in (401, 403):
            raise _refused(base, f"{base}/login")
        if answer.status_code >= 400:
            failure = f"{base}/login: status {answer.status_code}"
            raise _TryAgain(failure) if _passing(answer.status_code) else Error(failure)


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
    with writing(target):
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
    """Ask for an archive once, or for the rest of what is here of it."""
    version = _remembered(part, url)
    have = _size(part) if version else 0
    # "identity": some servers call a .tgz a gzip-encoded tar, and the sizes must be the archive's own.
    headers = {"Accept-Encoding": "identity"}
    if version and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    with _send(session, "GET", url, headers=headers) as response:
        match response.status_code:
            case 200:
                have, size = 0, _length(response.headers.get("Content-Length"))
            case 206 if have:
                span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
                if not span or int(span[1]) != have or _version(response) not in (None, version):
                    _forget(part)
                    raise _TryAgain(f"{url}: the server sent another piece than the one asked for")
                size = _length(span[2])
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
        chunks = _chunks(response)
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
            with writing(part):
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


def _chunks(response: "requests.Response", *, decode: bool = False) -> Iterator[bytes]:
    """What a server sends, in pieces of 64 KiB; `decode` undoes its Content-Encoding."""
    from urllib3.exceptions import HTTPError

    while True:
        try:
            chunk = response.raw.read(_CHUNK, decode_content=decode)
        except (HTTPError, OSError) as error:
            raise _TryAgain(f"{response.url}: the connection was cut ({type(error).__name__})") from None
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

    name, disable = part.name.removesuffix(".part"), None if progress else True
    bar = tqdm(desc=name, total=size, initial=have, unit="B", unit_scale=True, unit_divisor=1024, disable=disable)
    with bar, writing(part), open(part, "ab") as file:
        while first:
            file.write(first)
            bar.update(len(first))
            first = next(chunks, b"")
