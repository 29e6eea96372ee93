"""Attacks on the workbench: other sites, strangers, names, texts, sizes, slow clients."""

import asyncio
import io
import json
import re
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwr import Error
from hwr.serve.project.uploads import Upload, safe_name

from . import serve_pages

pytest.importorskip("starlette")
pytest.importorskip("multipart")
pytest.importorskip("uvicorn")
testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")

from hwr.serve import run  # noqa: E402
from hwr.serve.api import security  # noqa: E402
from hwr.serve.api.app import STATIC, build  # noqa: E402
from hwr.serve.api.security import Rules  # noqa: E402
from hwr.serve.project import uploads  # noqa: E402
from hwr.serve.workbench import Workbench  # noqa: E402

TOKEN = "0123456789abcdef"


@pytest.fixture
def bench(model: Path, drawn: Path, tmp_path: Path) -> Iterator[Workbench]:
    (tmp_path / "secret.png").write_bytes(b"only for me")
    folder = tmp_path / "project"
    folder.mkdir()
    serve_pages.write(folder / "a.png", serve_pages.lines_of(drawn)[:1], ["<script>alert(1)</script>"])
    found = Workbench(folder, str(model), ["engine.device=cpu"], find=serve_pages.find)
    yield found
    found.close()


def client(bench: Workbench, rules: Rules | None = None, host: str = "localhost") -> Any:
    # Without its lifespan, so that the fixture closes the workbench.
    return testclient.TestClient(build(bench, rules), base_url=f"http://{host}")


def test_only_this_computer_by_name(bench: Workbench) -> None:
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert client(bench, host=host).get("/api/pages").status_code == 200
    for host in ("evil.example", "localhost.evil.example", "192.168.0.1:8000", "[::2]"):
        assert client(bench, host=host).get("/api/pages").status_code == 421
        assert client(bench, host=host).get("/").status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_requests_of_other_sites_are_refused(bench: Workbench, headers: dict[str, str]) -> None:
    found = client(bench).post("/api/jobs", json={"kind": "read"}, headers=headers)
    assert found.status_code == 403
    assert bench.store.jobs() == []
    assert client(bench).post("/api/pages", files={"file": ("x.png", b"x")}, headers=headers).status_code == 403


def test_a_form_of_another_site_can_change_nothing(bench: Workbench) -> None:
    """A browser that sends neither Origin nor Sec-Fetch-Site still can't send JSON from a form."""
    found = client(bench).post("/api/jobs", content=b'{"kind": "read"}', headers={"content-type": "text/plain"})
    assert found.status_code == 415


def test_the_token_is_needed_everywhere(bench: Workbench) -> None:
    from hwr.serve.api.app import API

    http = client(bench, Rules(TOKEN), host="192.168.0.7:8000")
    for route in API:
        path = re.sub(r"{job}", "1", re.sub(r"{(page|line)(:path)?}", "x", route.path))
        for method in route.methods or ():
            if path not in ("/api/health", "/api/session"):
                assert http.request(method, path).status_code == 401, path
    assert http.get("/api/pages", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    for wrong in ("", TOKEN[:-1], f"{TOKEN}x"):
        assert http.get("/api/pages", headers={"authorization": f"Bearer {wrong}"}).status_code == 401
        assert http.post("/api/session", json={"token": wrong}).status_code == 401
    found = http.post("/api/session", json={"token": TOKEN})
    cookie = found.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert http.get("/api/pages").status_code == 200
    http.cookies.clear()
    http.cookies.set(security.cookie_of("192.168.0.7:8000"), "guessed")
    assert http.get("/api/pages").status_code == 401


def test_a_new_token_ends_the_sessions_of_the_old(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    http = client(bench, Rules(TOKEN))
    http.post("/api/session", json={"token": TOKEN})
    cookies = dict(http.cookies)

    def status(token: str) -> int:
        again = client(bench, Rules(token))
        again.cookies.update(cookies)
        return int(again.get("/api/pages").status_code)

    assert (status(TOKEN), status(TOKEN[::-1])) == (200, 401)
    ((kept,),) = bench.store._do("SELECT key FROM sessions")
    assert kept not in cookies.values()
    monkeypatch.setattr(security, "SESSION_SECONDS", 0.0)
    assert status(TOKEN) == 401
    assert bench.store._do("SELECT key FROM sessions") == []


def test_two_servers_of_a_computer_do_not_end_each_others_sessions(bench: Workbench) -> None:
    one, other = (client(bench, Rules(TOKEN[::step]), f"192.168.0.7:{8000 + step}") for step in (1, -1))
    for http, token in ((one, TOKEN), (other, TOKEN[::-1])):
        assert http.post("/api/session", json={"token": token}).status_code == 200
    one.cookies.update(other.cookies)  # a browser has one store for all ports
    assert one.get("/api/pages").status_code == 200


def test_a_host_gets_a_token_and_a_short_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Error, match="at least 16 characters"):
        run.run(tmp_path, None, [], [], "0.0.0.0", 0, "short", 1, print)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2f..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/api/pages/..%2f..%2fsecret.png/picture",
        "/api/pages/%2e%2e/picture",
        "/api/pages/secret.png/picture",
    ],
)
def test_addresses_never_leave_the_folder(bench: Workbench, path: str) -> None:
    found = client(bench).get(path)
    assert found.status_code in (400, 404), path
    assert b"only for me" not in found.content
    assert b"import" not in found.content


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("..\\..\\windows\\x.png", "x.png"),
        ("/etc/x.png", "x.png"),
        ("C:\\x.PNG", "x.png"),
        ("a\x00b\nc.png", "a_b_c.png"),
        ("...hidden.png", "hidden.png"),
        (".hwr", "hwr"),
        ("con.png", "_con.png"),
        ("a<b>|?*.png", "a_b____.png"),
        ("\u202egnp.exe.png", "_gnp.exe.png"),
        ("x" * 400 + ".png", "x" * 150 + ".png"),
        ("e\u0301.png", "\u00e9.png"),
    ],
)
def test_names_are_made_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("name", ["", "..", "/", ".", "../", "\\", " . "])
def test_names_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(Error, match="no name for a file"):
        safe_name(name)


def test_archives_with_odd_contents(bench: Workbench) -> None:
    picture = (bench.project.root / "a.png").read_bytes()

    def stored(*files: tuple[Any, bytes], cut: int = 0) -> list[uploads.Stored]:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for info, data in files:
                archive.writestr(info, data)
        packed = content.getvalue()
        return uploads.store(bench.project, [Upload("x.zip", io.BytesIO(packed[: len(packed) - cut]))])

    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    found = stored(("../../up.png", picture), ("/abs.png", picture), (link, b"/etc/passwd"), ("..\\win.png", picture))
    assert [one.stored for one in found] == ["up.png", "abs.png", "", "win.png"]
    assert not (bench.project.root / "link.png").exists()
    assert "times as large" in stored(("bomb.png", b"\0" * 50_000_000))[0].error
    assert "the limit is" in stored(*((f"{i}.txt", b"") for i in range(uploads.MOST_FILES + 1)))[0].error
    assert "can't be unpacked" in stored(("a.png", picture), cut=30)[0].error
    (nested,) = stored(("inner.zip", b"PK"))
    assert "not a kind of file" in nested.error
    inside = {path.relative_to(bench.project.root).parts[0] for path in bench.project.root.rglob("*")}
    assert inside == {".hwr", "a.png", "a.xml", "up.png", "abs.png", "win.png"}


def asked(app: Any, path: str, receive: Any, type_: bytes) -> tuple[int, Any]:
    """Post what `receive` gives, bit by bit; returns the status and the answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", type_)]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    scope |= {"raw_path": path.encode(), "root_path": "", "scheme": "http", "http_version": "1.1"}
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 20))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_oversized_requests(bench: Workbench) -> None:
    http = client(bench, Rules(most_bytes=20_000))
    files = {"file": ("x.png", b"x" * 30_000)}
    found = http.post("/api/pages", files=files)
    assert found.status_code == 413
    assert "send fewer files at once" in found.json()["error"]

    # Without a Content-Length, what arrives is counted.
    arrived = 0

    async def endless() -> Any:
        nonlocal arrived
        arrived += 5_000
        return {"type": "http.request", "body": b"x" * 5_000, "more_body": True}

    assert asked(build(bench, Rules(most_bytes=20_000)), "/api/read", endless, b"image/png")[0] == 413
    assert arrived == 25_000
    found = client(bench).post("/api/jobs", content=b" " * 5_000_000, headers={"content-type": "application/json"})
    assert found.status_code == 413
    found = client(bench).post("/api/jobs", content=b"[" * 100_000, headers={"content-type": "application/json"})
    assert found.status_code == 400
    many = [("file", (f"{i}.png", b"x")) for i in range(201)]
    assert client(bench).post("/api/pages", files=many).status_code == 400


def test_images_with_too_many_pixels(bench: Workbench) -> None:
    from PIL import Image

    huge = io.BytesIO()
    Image.new("1", (12_000, 9_000)).save(huge, "PNG")
    (found,) = uploads.store(bench.project, [Upload("huge.png", huge)])
    assert "pixels are too many" in found.error
    assert {path.name for path in bench.project.root.iterdir()} == {".hwr", "a.png", "a.xml"}


def test_texts_never_become_markup(bench: Workbench) -> None:
    http = client(bench)
    page = http.get("/api/pages").json()["pages"][0]
    found = http.get(f"/api/pages/{page['id']}")
    assert found.headers["content-type"] == "application/json"
    assert found.json()["lines"][0]["text"] == "<script>alert(1)</script>"
    index = http.get("/")
    policy = index.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert index.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", index.text)
    for path in STATIC.glob("*.js"):
        code = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", code), (
            path
        )
        # Nothing comes from elsewhere; the only other address is the name of SVG's namespace.
        assert set(re.findall(r"https?://[^\"'`]*", code)) <= {"http://www.w3.org/2000/svg"}


def test_slow_clients(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "PAUSE_SECONDS", 0.2)

    async def never() -> Any:
        await asyncio.sleep(60)

    async def drip() -> Any:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    for receive in (never, drip):
        status, answer = asked(build(bench), "/api/jobs", receive, b"application/json")
        assert status == 408
        assert "error" in answer


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Error, match="--port"):
            run.run(tmp_path, None, [], [], "127.0.0.1", taken.getsockname()[1], None, 1, print)


def test_a_folder_has_one_server(bench: Workbench, model: Path) -> None:
    with pytest.raises(Error, match="another hwr serve"):
        Workbench(bench.project.root, str(model))
