"""The download client, against a local server with a login form, range requests and faults."""

import errno
import gzip
import hashlib
import io
import json
import random
import re
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

import hwr
from hwr.data.formats.iam import LISTS
from hwr.data.iam_archive import download, unpack

EMAIL, PASSWORD = "ann@example.org", "s3cret&pass word"
LOGIN_PAGE = b"""<!DOCTYPE html><html><body><form method="post" action="/login">
<input type="hidden" name="token" value="t&amp;1"><input name="email"><input type="password" name="password"></form></body></html>"""
XML, LINES, ZIP = "/DBs/iamDB/data/xml.tgz", "/DBs/iamDB/data/lines.tgz", f"/static/zip/{LISTS}.zip"


def tgz(files, **members):
    """A .tgz of {name: content}; `members` are other TarInfo types, {name: (type, linkname)}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, (type, link) in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type, link
            tar.addfile(info)
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


NOISE = random.Random(0).randbytes(400_000)  # incompressible, so that the archive is long enough to cut
ARCHIVES = {
    XML: tgz({"a01-000u.xml": b"<form/>", "./a01-003.xml": b"<form/>"}),
    LINES: tgz({"a01/a01-000u/a01-000u-00.png": NOISE, "a01/a01-000u/a01-000u-01.png": b"png"}),
    "/DBs/iamDB/data/ascii.tgz": tgz({"ascii/lines.txt": b"#"}),
    "/DBs/iamDB/data/formsA-D.tgz": tgz({"a01-000u.png": b"1"}),
    "/DBs/iamDB/data/formsE-H.tgz": tgz({"e01-000u.png": b"2"}),
    "/DBs/iamDB/data/formsI-Z.tgz": tgz({"l01-000u.png": b"3"}),
    ZIP: zipped({f"{LISTS}/": b"", f"{LISTS}/trainset.txt": b"a01-000u-00\n", "testset.txt": b""}),
}


class Server(ThreadingHTTPServer):
    """Tests set how it misbehaves."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(ARCHIVES)
        self.requests = []  # (method, path, Range header)
        self.cuts = []  # after how many bytes to cut the next archives
        self.ranges = True
        self.lengths = True
        self.statuses = []  # of the next archives
        self.redirects = {}  # path -> location
        self.after_login = "/"
        self.cut_login = False
        self.content_range = None
        self.weak = False
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # some tests make the client hang up

    def asked(self, path):
        return [range for method, asked, range in self.requests if method == "GET" and asked == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": len(body), "Connection": "close"} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.server.requests.append(("POST", self.path, None))
        fields = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.path in self.server.redirects:
            self.reply(307, Location=self.server.redirects[self.path])
        elif fields == {"token": ["t&1"], "email": [EMAIL], "password": [PASSWORD]}:
            self.reply(302, Location=self.server.after_login, Set_Cookie="session=good; Path=/; HttpOnly")
        else:
            self.reply(200, LOGIN_PAGE, Content_Type="text/html; charset=utf-8")

    def do_GET(self):
        server = self.server
        server.requests.append(("GET", self.path, self.headers["Range"]))
        if server.cut_login:
            server.cut_login = False
            self.reply(200, b"<form>", Content_Length=1000)
        elif self.path in server.redirects:
            self.reply(302, Location=server.redirects[self.path])
        elif self.path not in server.files or "session=good" not in (self.headers["Cookie"] or ""):
            self.reply(200, LOGIN_PAGE, Content_Type="text/html; charset=utf-8")
        elif server.statuses and (status := server.statuses.pop(0)):
            self.reply(status)
        else:
            self.send_file(server.files[self.path])

    def send_file(self, body):
        server = self.server
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        if server.weak:
            headers = {"ETag": f"W/{etag}", "Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        else:
            headers = {"ETag": etag}
        known = headers.get("Last_Modified", etag)
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked and server.ranges and self.headers.get("If-Range", known) == known:
            start, status = int(asked[1]), 206
            if start >= len(body):
                self.reply(416, Content_Range=f"bytes */{len(body)}")
                return
            span = server.content_range or f"bytes {start}-{len(body) - 1}/{len(body)}"
            headers["Content_Range"] = span
        rest = body[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/x-gzip")
        self.send_header("Connection", "close")
        if server.lengths:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(server, root, *parts, password=PASSWORD, **options):
    options = {"base_url": server.url, "progress": False, "pause": 0.001} | options
    return download.download(root, EMAIL, password, parts=parts or download.DEFAULT_PARTS, **options)


def fails(server, root, *parts, says=(), **options):
    """The error's message, which contains all of `says`. Neither it nor any file contains credentials."""
    with pytest.raises(hwr.Error) as caught:
        get(server, root, *parts, **options)
    message = str(caught.value)
    for text in (says,) if isinstance(says, str) else says:
        assert str(text) in message
    assert PASSWORD not in message
    assert "s3cret" not in message
    assert EMAIL not in message
    for path in root.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()
    return message


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- Success ---


def test_default_parts(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    root = tmp_path / "data" / "iam"
    folders = get(server, root, progress=True)
    assert folders == [root / "xml", root / "lines", root / "ascii", root / LISTS]
    assert tree(root) == [
        "ascii/.complete",
        "ascii/lines.txt",
        f"{LISTS}/.complete",
        f"{LISTS}/testset.txt",
        f"{LISTS}/trainset.txt",
        "lines/.complete",
        "lines/a01/a01-000u/a01-000u-00.png",
        "lines/a01/a01-000u/a01-000u-01.png",
        "xml/.complete",
        "xml/a01-000u.xml",
        "xml/a01-003.xml",
    ]
    assert (root / "lines/a01/a01-000u/a01-000u-00.png").read_bytes() == NOISE
    printed = capsys.readouterr()
    assert "lines.tgz" in printed.err
    assert "s3cret" not in printed.err + printed.out


def test_forms(server, tmp_path):
    get(server, tmp_path, "forms")
    images = ["formsA-D/a01-000u.png", "formsE-H/e01-000u.png", "formsI-Z/l01-000u.png"]
    assert [name for name in tree(tmp_path) if name.endswith("png")] == images


def test_complete_parts_are_not_requested_again(server, tmp_path):
    get(server, tmp_path, "xml")
    server.requests.clear()
    assert get(server, tmp_path, "xml") == [tmp_path / "xml"]
    assert server.requests == []


def test_archives_can_be_kept(server, tmp_path):
    get(server, tmp_path, "xml", "lists", keep_archives=True)
    assert (tmp_path / "archives/xml.tgz").read_bytes() == ARCHIVES[XML]
    (tmp_path / "xml/.complete").unlink()
    (tmp_path / "xml/a01-003.xml").unlink()
    (tmp_path / "xml/mine.xml").write_text("stays")
    server.requests.clear()
    get(server, tmp_path, "xml", keep_archives=True)
    assert server.requests == []
    assert tree(tmp_path / "xml") == [".complete", "a01-000u.xml", "a01-003.xml", "mine.xml"]


def test_folder_on_another_disk_is_followed(server, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "iam").mkdir()
    (tmp_path / "iam/xml").symlink_to(tmp_path / "disk")
    get(server, tmp_path / "iam", "xml")
    assert tree(tmp_path / "disk") == [".complete", "a01-000u.xml", "a01-003.xml"]


def test_redirects_on_the_same_server_are_followed(server, tmp_path):
    server.files["/elsewhere"] = ARCHIVES[XML]
    server.redirects[XML] = "/elsewhere"
    get(server, tmp_path, "xml")
    assert (tmp_path / "xml/a01-003.xml").exists()


def test_the_redirect_after_login_does_not_matter(server, tmp_path):
    server.after_login = "http://example.org/"
    get(server, tmp_path, "xml")
    assert (tmp_path / "xml/a01-003.xml").exists()


# --- Cut connections ---


@pytest.mark.parametrize("weak", [False, True])
def test_cut_connections_are_resumed(server, tmp_path, weak):
    server.cuts, server.weak = [150_000, 100_000], weak
    get(server, tmp_path, "lines")
    assert server.asked(LINES) == [None, "bytes=150000-", "bytes=250000-"]
    assert (tmp_path / "lines/a01/a01-000u/a01-000u-00.png").read_bytes() == NOISE


def test_a_later_run_resumes_the_download(server, tmp_path):
    server.cuts = [150_000]
    fails(server, tmp_path, "lines", tries=1, says="Tried 1 times")
    part = tmp_path / "archives/lines.tgz.part"
    assert part.read_bytes() == ARCHIVES[LINES][:150_000]
    get(server, tmp_path, "lines")
    assert server.asked(LINES) == [None, "bytes=150000-"]
    assert not (tmp_path / "archives").exists()


def test_a_server_without_range_support(server, tmp_path):
    server.cuts, server.ranges = [150_000, 200_000], False
    get(server, tmp_path, "lines")
    assert server.asked(LINES) == [None, "bytes=150000-", "bytes=200000-"]
    assert (tmp_path / "lines/a01/a01-000u/a01-000u-00.png").read_bytes() == NOISE


def test_a_changed_file_is_downloaded_from_the_start(server, tmp_path):
    server.cuts = [150_000]
    fails(server, tmp_path, "lines", tries=1)
    other = NOISE[::-1]
    server.files[LINES] = tgz({"a01/a01-000u/a01-000u-00.png": other})
    get(server, tmp_path, "lines")
    assert (tmp_path / "lines/a01/a01-000u/a01-000u-00.png").read_bytes() == other


@pytest.mark.parametrize("spoil", ["missing", "not JSON", "[]", '{"url": "elsewhere", "version": "x"}'])
def test_a_part_without_a_version_is_not_resumed(server, tmp_path, spoil):
    server.cuts = [150_000]
    fails(server, tmp_path, "lines", tries=1)
    note = tmp_path / "archives/lines.tgz.part.json"
    assert set(json.loads(note.read_text())) == {"url", "version"}
    note.unlink() if spoil == "missing" else note.write_text(spoil)
    get(server, tmp_path, "lines")
    assert server.asked(LINES) == [None, None]


def test_a_wrong_range_is_detected(server, tmp_path):
    server.cuts, server.content_range = [150_000], "bytes 0-9/400000"
    get(server, tmp_path, "lines")
    assert server.asked(LINES) == [None, "bytes=150000-", None]


def test_an_already_complete_part(server, tmp_path):
    server.cuts = [150_000]
    fails(server, tmp_path, "lines", tries=1)
    (tmp_path / "archives/lines.tgz.part").write_bytes(ARCHIVES[LINES])
    get(server, tmp_path, "lines")
    assert server.asked(LINES)[1:] == [f"bytes={len(ARCHIVES[LINES])}-"]


def test_a_part_that_is_too_long(server, tmp_path):
    server.cuts = [150_000]
    fails(server, tmp_path, "lines", tries=1)
    (tmp_path / "archives/lines.tgz.part").write_bytes(ARCHIVES[LINES] + b"more")
    get(server, tmp_path, "lines")
    assert server.asked(LINES)[2:] == [None]


def test_a_cut_login_page(server, tmp_path):
    server.cut_login = True
    get(server, tmp_path, "xml")
    assert server.asked("/login") == [None, None]


def test_giving_up(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.cuts = [0] * 4
    fails(server, tmp_path, "lines", tries=4, pause=1, says=("lines.tgz", "Tried 4 times"))
    assert pauses == [1, 2, 4]


def test_an_overloaded_server(server, tmp_path):
    server.statuses = [503, 429]
    get(server, tmp_path, "xml")
    server.statuses = [404]
    fails(server, tmp_path, "lines", says="status 404")
    assert len(server.asked(LINES)) == 1


def test_a_cut_without_a_length_is_found_when_unpacking(server, tmp_path):
    server.cuts, server.lengths = [150_000], False
    fails(server, tmp_path, "lines", says="damaged")
    get(server, tmp_path, "lines")


def test_no_server(server, tmp_path):
    gone = Server()
    gone.server_close()
    fails(server, tmp_path, "xml", base_url=gone.url, tries=2, says=(gone.url, "Tried 2 times"))


# --- Credentials, and where they are sent ---


def test_wrong_password(server, tmp_path):
    fails(server, tmp_path, "lines", password="s3cret?", says="wrong e-mail or password")
    assert len(server.asked(LINES)) == 1
    server.statuses = [403]
    fails(server, tmp_path, "lines", says="wrong e-mail or password")


def test_a_wrong_password_keeps_the_partial_download(server, tmp_path):
    server.cuts = [150_000]
    fails(server, tmp_path, "lines", tries=1)
    fails(server, tmp_path, "lines", password="s3cret?", says="wrong e-mail or password")
    assert (tmp_path / "archives/lines.tgz.part").stat().st_size == 150_000


def test_not_an_archive(server, tmp_path):
    server.files[XML] = b"oops"
    fails(server, tmp_path, "xml", says=("xml.tgz: is not a gzip archive", "oops"))
    server.files[ZIP] = ARCHIVES[XML]
    fails(server, tmp_path, "lists", says="is not a zip archive")


@pytest.mark.parametrize("url", ["http://fki.tic.heia-fr.ch", "ftp://127.0.0.1", "fki.tic.heia-fr.ch", "https://", ""])
def test_https_only(server, tmp_path, url):
    fails(server, tmp_path, base_url=url, says="https://")


def test_credentials_in_the_address_are_refused(server, tmp_path):
    for url in ("https://ann:s3cret@127.0.0.1", "https://ann:s3cret@127.0.0.1:port"):
        fails(server, tmp_path, base_url=url, says="credentials")
    fails(server, tmp_path, base_url="https://127.0.0.1:port", says="malformed")


@pytest.mark.parametrize("path", [XML, "/login"])
def test_redirects_to_other_places_are_refused(server, tmp_path, path):
    other = Server()
    other.server_close()
    for target in (f"{other.url}/x", "https://127.0.0.1/x", "http://example.org/x"):
        server.redirects = {path: target}
        fails(server, tmp_path, "xml", says=("redirects to", target))
    for target in ("http://[x", "http://127.0.0.1:port/"):
        server.redirects = {path: target}
        fails(server, tmp_path, "xml", says="malformed")
    server.redirects = {path: path}
    fails(server, tmp_path, "xml", says="redirects")


def test_parts_and_credentials_are_asked_for(server, tmp_path):
    fails(server, tmp_path, "xml", "pages", says=("pages", "xml, lines, words, forms, ascii, lists"))
    fails(server, tmp_path, password="", says="e-mail and password")
    assert server.requests == []


# --- Disks ---


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk(server, tmp_path):
    (tmp_path / "archives").mkdir()
    part = tmp_path / "archives/lines.tgz.part"
    part.symlink_to("/dev/full")
    with pytest.raises(
        hwr.Error, match=rf"(?s)lines\.tgz\.part: could not be written: {re.escape('No space left')}.*kept"
    ):
        get(server, tmp_path, "lines")
    assert part.is_symlink()


def test_a_disk_too_small_for_the_archive(server, tmp_path, monkeypatch):
    server.cuts = [150_000]
    fails(server, tmp_path, "lines", tries=1)
    usage = download.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    fails(server, tmp_path, "lines", says=("disk full", "1,000 are free"))
    assert (tmp_path / "archives/lines.tgz.part").stat().st_size == 150_000


def test_a_full_disk_while_unpacking(server, tmp_path, monkeypatch):
    def full(source, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_merge", full)
        fails(server, tmp_path, "xml", says="No space left on device")
    assert tree(tmp_path) == ["archives/xml.tgz"]
    get(server, tmp_path, "xml")
    assert len(server.asked(XML)) == 1


def test_an_interrupted_unpacking_starts_again(server, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_write_member", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path, "xml")
    assert not (tmp_path / "xml").exists()
    left = tmp_path / ".unpacking-xml"  # leftovers of a kill
    left.mkdir()
    (left / "half.xml").write_text("half")
    get(server, tmp_path, "xml")
    assert tree(tmp_path) == ["xml/.complete", "xml/a01-000u.xml", "xml/a01-003.xml"]


# --- Hostile archives ---


def refused(tmp_path, name, content, says):
    archive = tmp_path / "in" / name
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(content)
    with pytest.raises(hwr.Error, match=re.escape(says)):
        unpack.unpack(archive, tmp_path / "in" / "xml")
    assert [path.name for path in archive.parent.iterdir()] == [name]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    archive.unlink()


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/tmp/hwr-evil", "xml/../../evil", "..\\evil", "C:evil", "x\n"]
)
def test_paths_outside_the_folder_are_refused(tmp_path, name):
    refused(tmp_path, "xml.tgz", tgz({"good.xml": b"", name: b"evil"}), "outside the folder")
    assert not Path("/tmp/hwr-evil").exists()
    if "\\" not in name:  # zipfile itself turns them into slashes on some systems
        refused(tmp_path, "lists.zip", zipped({"good.txt": b"", name: b"evil"}), "outside the folder")


@pytest.mark.parametrize("type", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices(tmp_path, type):
    refused(tmp_path, "xml.tgz", tgz({"good.xml": b""}, evil=(type, "/etc/passwd")), "'evil' is a link or a device")


def test_links_and_encryption_in_a_zip(tmp_path):
    link = zipfile.ZipInfo("evil")
    link.external_attr = 0o120777 << 16
    refused(tmp_path, "x.zip", zipped({link: b"/etc/passwd"}), "'evil' is a link, a device or encrypted")
    secret = bytearray(zipped({"a.txt": b"a"}))
    secret[secret.index(b"PK\x01\x02") + 8] |= 1
    refused(tmp_path, "x.zip", bytes(secret), "encrypted")


def test_absurd_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "_MAX_FILES", 3)
    monkeypatch.setattr(unpack, "_MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(unpack, "_MAX_BYTES", 2000)
    refused(tmp_path, "x.tgz", tgz({str(n): b"" for n in range(4)}), "larger than IAM can be")
    refused(tmp_path, "x.tgz", tgz({"a": bytes(1001)}), "larger than IAM can be")
    refused(tmp_path, "x.zip", zipped({"a": bytes(900), "b": bytes(900), "c": bytes(900)}), "larger than IAM can be")


def test_a_zip_that_lies_about_sizes(tmp_path):
    lying = bytearray(zipped({"a.txt": bytes(5000)}))
    at = lying.index(b"PK\x01\x02")
    lying[at + 24 : at + 28] = (10).to_bytes(4, "little")
    archive = tmp_path / "x.zip"
    archive.write_bytes(lying)
    with pytest.raises(hwr.Error, match="damaged"):
        unpack.unpack(archive, tmp_path / "lists")
    assert tree(tmp_path) == []


@pytest.mark.parametrize("spoil", ["cut", "flipped", "checksum", "no gzip", "no tar", "no files"])
def test_damaged_archives(tmp_path, spoil):
    content = bytearray(ARCHIVES[LINES])
    if spoil == "flipped":
        content[200_000] ^= 0xFF
    if spoil == "checksum":
        content[-8] ^= 0xFF
    content = {
        "cut": content[:200_000],
        "no gzip": b"PK",
        "no tar": gzip.compress(b"hello " * 1000),
        "no files": tgz({}),
    }.get(spoil, content)
    archive = tmp_path / "lines.tgz"
    archive.write_bytes(content)
    with pytest.raises(hwr.Error, match="contains no files" if spoil == "no files" else "damaged"):
        unpack.unpack(archive, tmp_path / "lines")
    assert tree(tmp_path) == (["lines.tgz"] if spoil == "no files" else [])


def test_a_damaged_zip(tmp_path):
    for content in (ARCHIVES[ZIP][:60], ARCHIVES[ZIP].replace(b"a01-000u-00", b"a01-000u-99"), b""):
        archive = tmp_path / "x.zip"
        archive.write_bytes(content)
        with pytest.raises(hwr.Error, match="damaged"):
            unpack.unpack(archive, tmp_path / "lists")
        assert tree(tmp_path) == []
