"""The REST API of the workbench: reading, correcting, jobs, uploads."""

import errno
import io
import json
import os
import shutil
import tempfile
import time
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from PIL import Image

from hwr.data.formats import page as page_format
from hwr.data.formats import xml
from hwr.data.formats.shapes import Marked
from hwr.images import load
from hwr.serve.reading import project_pages
from hwr.serve.reading.project_pages import of_words

from . import serve_pages

pytest.importorskip("starlette")
pytest.importorskip("multipart")
pytest.importorskip("uvicorn")
testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")

from hwr.serve.api import files  # noqa: E402
from hwr.serve.api.app import API, build  # noqa: E402
from hwr.serve.workbench import Workbench  # noqa: E402


class Client:
    """A client of a workbench in this process."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.http = testclient.TestClient(build(bench), base_url="http://localhost")

    def __call__(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        found = self.http.request(method, path, **more)
        assert found.status_code == status, found.text
        return found.json()

    def get(self, path: str, **more: Any) -> Any:
        return self("GET", path, **more)

    def pages(self) -> dict[str, Any]:
        return {page["name"]: page for page in self.get("/api/pages")["pages"]}

    def page(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/pages/{self.pages()[name]['id']}")
        return found

    def correct(self, page: dict[str, Any], line: dict[str, Any], text: str, status: int = 200) -> Any:
        return self(
            "PATCH",
            f"/api/pages/{page['id']}/lines/{quote(line['id'], safe='')}",
            status,
            json={"text": text, "checked": True},
            headers={"If-Match": line["revision"]},
        )

    def edit(self, page: dict[str, Any], change: dict[str, Any], status: int = 200) -> Any:
        return self(
            "POST", f"/api/pages/{page['id']}", status, json=change, headers={"If-Match": f'"{page["revision"]}"'}
        )

    def upload(self, *files: tuple[str, bytes], status: int = 200) -> list[dict[str, str]]:
        parts = [("file", (name, content)) for name, content in files]
        found: list[dict[str, str]] = self("POST", "/api/pages", status, files=parts)["files"]
        return found

    def done(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job when it has ended."""
        for _ in range(600):
            found: dict[str, Any] = self.get(f"/api/jobs/{job['id']}")
            if found["state"] not in ("waiting", "running"):
                return found
            time.sleep(0.05)
        raise AssertionError(found)


@pytest.fixture
def client(model: Path, drawn: Path, tmp_path: Path) -> Iterator[Client]:
    folder = tmp_path / "project"
    folder.mkdir()
    lines = serve_pages.lines_of(drawn)
    serve_pages.write(folder / "a.png", lines[:3])
    serve_pages.draw(folder / "b.png", lines[3:5])
    bench = Workbench(folder, str(model), ["engine.device=cpu", "engine.threads=1"], find=serve_pages.find)
    found = Client(bench)
    with found.http:
        yield found


def test_characters_do_not_move_with_the_outline_of_their_line(client: Client) -> None:
    client.done(client("POST", "/api/jobs", 202, json={"kind": "read"}))
    page = client.page("a.png")
    line = page["lines"][0]
    shape = [[x + 9, y] for x, y in line["polygon"]]
    address, revision = f"/api/pages/{page['id']}/lines/{line['id']}", line["revision"]
    after = client("PATCH", address, json={"polygon": shape}, headers={"If-Match": revision})["lines"]
    assert (after[0]["text"], after[0]["characters"]) == (line["text"], [])
    assert after[1]["characters"] == page["lines"][1]["characters"] != []


def test_pages_are_read_corrected_and_searched(client: Client) -> None:
    assert {name: page["state"] for name, page in client.pages().items()} == {"a.png": "new", "b.png": "new"}
    job = client.done(client("POST", "/api/jobs", 202, json={"kind": "read"}))
    assert (job["state"], job["progress"]["done"], job["progress"]["faults"]) == ("done", 2, [])
    pages = client.pages()
    assert {page["state"] for page in pages.values()} == {"read"}
    assert [pages[name]["count"] for name in ("a.png", "b.png")] == [3, 2]
    page = client.page("a.png")
    line = page["lines"][0]
    assert line["state"] == "read"
    assert "".join(character[0] for character in line["characters"]) == line["text"]
    # Their edges are those in the image of the line, wherever it is on the page.
    region, baseline = (tuple(map(tuple, line[key])) for key in ("polygon", "baseline"))
    cut = load.read_line(client.bench.project.root / "a.png", region, True, baseline)
    alone = client.bench.reader.recognizer.read(cut, characters=True)
    assert min(x for x, _ in region) > 0
    for found, character in zip(line["characters"], alone.characters, strict=True):
        assert found[1:3] == pytest.approx([character.left, character.right], abs=0.2)
    assert 0 < line["confidence"] <= 1
    after = client.correct(page, line, "Überprüft <b>")
    assert after["lines"][0]["text"] == "Überprüft <b>"
    assert after["state"] == "in progress"
    client.correct(page, line, "another window", 409)
    for form in ("NFD", "NFC"):
        found = client.get(f"/api/pages?search={unicodedata.normalize(form, 'ÜBERPRÜFT')}")
        assert len(found["pages"]) == 1, form
    found = client.get("/api/pages?search=überprüft")
    assert [(page["name"], [hit["text"] for hit in page["hits"]]) for page in found["pages"]] == [
        ("a.png", ["Überprüft <b>"])
    ]
    assert found["corrected"] == 1
    back = client(
        "PATCH",
        f"/api/pages/{page['id']}/lines/{line['id']}",
        json={"restore": {"text": line["text"], "state": "read", "confidence": line["confidence"]}},
        headers={"If-Match": after["lines"][0]["revision"]},
    )
    assert back["lines"][0] == line


@pytest.mark.parametrize("text", ["a\tb\nc", "a\u2028b"])
def test_a_text_of_a_file_can_be_put_back(client: Client, text: str) -> None:
    page = client.page("a.png")
    after = client.correct(page, page["lines"][0], "ab")
    back = client(
        "PATCH",
        f"/api/pages/{page['id']}/lines/{page['lines'][0]['id']}",
        json={"restore": {"text": text, "state": "given", "confidence": None}},
        headers={"If-Match": after["lines"][0]["revision"]},
    )
    assert (back["lines"][0]["text"], back["lines"][0]["state"]) == (text, "given")


@pytest.mark.parametrize("text", ["a\tb", "a\u2028b", "a\ufffeb", "a\uffffb"])
def test_characters_that_no_line_can_hold_are_refused(client: Client, text: str) -> None:
    page = client.page("a.png")
    address, line = f"/api/pages/{page['id']}/lines/l1", page["lines"][0]
    more = {"json": {"text": text, "checked": True}, "headers": {"If-Match": line["revision"]}}
    assert "control character" in client("PATCH", address, 400, **more)["error"]
    assert client.page("a.png")["lines"][0] == line


def test_a_correction_needs_a_revision(client: Client) -> None:
    page = client.page("a.png")
    address = f"/api/pages/{page['id']}/lines/l1"
    assert "If-Match" in client("PATCH", address, 428, json={"text": "x", "checked": True})["error"]
    client("PATCH", address, 415, content=b"text=x", headers={"If-Match": "x"})
    client("PATCH", address, 400, json={"text": 1}, headers={"If-Match": "x"})
    client("PATCH", address, 400, json=[], headers={"If-Match": "x"})
    client(
        "PATCH",
        f"/api/pages/{page['id']}/lines/gone",
        404,
        json={"text": "", "checked": True},
        headers={"If-Match": "x"},
    )


def test_lines_are_edited(client: Client) -> None:
    page = client.page("a.png")
    page = client.edit(page, {"add": {"polygon": [[0, 0], [90, 0], [90, 30]], "after": None}})
    assert [line["id"] for line in page["lines"]] == ["hwr_line_1", "l1", "l2", "l3"]
    page = client.edit(page, {"move": {"line": "hwr_line_1", "after": "l3"}})
    page = client.edit(page, {"delete": ["hwr_line_1"]})
    page = client.edit(page, {"split": {"line": "l1", "x": 100, "at": 0}})
    assert len(page["lines"]) == 4
    page = client.edit(page, {"merge": ["l1", page["lines"][1]["id"]]})
    assert len(page["lines"]) == 3
    page = client.edit(page, {"read": ["l1"]})
    assert page["lines"][0]["state"] == "read"
    versions = client.get(f"/api/pages/{page['id']}/versions")["versions"]
    assert len(versions) >= 5
    page = client.edit(page, {"restore": versions[-1]})
    assert [line["state"] for line in page["lines"]] == ["empty"] * 3
    client.edit({**page, "revision": "old"}, {"delete": ["l1"]}, 409)
    for wrong in (
        {},
        {"delete": "l1"},
        {"delete": ["gone"]},
        {"add": {"polygon": [[0, 0]]}},
        {"add": {"polygon": "x"}},
    ):
        assert client.edit(page, wrong, 400)["error"]


def test_pictures_and_alternatives(client: Client) -> None:
    page = client.page("a.png")
    picture = client.http.get(f"/api/pages/{page['id']}/picture?width=320")
    assert picture.headers["content-type"] == "image/jpeg"
    client("GET", f"/api/pages/{page['id']}/picture?width=99999", 400)
    line = client.http.get(f"/api/pages/{page['id']}/lines/l1/picture")
    left, top, right, bottom = map(int, line.headers["x-box"].split(","))
    assert 0 <= left < right <= page["width"]
    assert 0 <= top < bottom <= page["height"]
    page = client.edit(page, {"read": ["l1"]})
    found = client.get(f"/api/pages/{page['id']}/lines/l1/alternatives")
    assert found["words"] == page["lines"][0]["text"].split()
    assert any(found["alternatives"])


def test_a_browser_shows_no_picture_of_another_project(client: Client) -> None:
    """Pages of one name have the same address in all projects that are served one after the other."""
    from PIL import Image

    page, image = client.page("a.png"), client.bench.project.root / "a.png"
    for path in ("picture", "lines/l1/picture"):
        address = f"/api/pages/{page['id']}/{path}"
        first = client.http.get(address)
        assert "no-cache" in first.headers["cache-control"]
        known = {"if-none-match": first.headers["etag"]}
        same = client.http.get(address, headers=known)
        assert (same.status_code, same.content) == (304, b"")
        with Image.open(image) as pixels:
            turned = pixels.transpose(Image.Transpose.ROTATE_180)
        turned.save(image)
        other = client.http.get(address, headers=known)
        assert other.status_code == 200
        assert other.content != first.content


@pytest.mark.parametrize("id", ["r1/l1", "r1/picture", "l1?a=b#c", "é"])
def test_lines_may_have_any_id(client: Client, id: str) -> None:
    path = client.bench.project.root / "a.xml"
    path.write_text(path.read_text(encoding="utf-8").replace('"l1"', f'"{id}"'), encoding="utf-8")
    page = client.edit(client.page("a.png"), {"read": [id]})
    assert page["lines"][0]["id"] == id
    address = f"/api/pages/{page['id']}/lines/{quote(id, safe='')}"
    assert client.http.get(f"{address}/picture").headers["content-type"] == "image/jpeg"
    assert client.get(f"{address}/alternatives")["words"]
    page = client.correct(page, page["lines"][0], "mine")
    assert (page["lines"][0]["text"], page["lines"][0]["state"]) == ("mine", "checked")
    with zipfile.ZipFile(io.BytesIO(client.http.get("/api/export?format=table").content)) as archive:
        assert json.loads(archive.read("metadata.jsonl"))["text"] == "mine"


def test_alternatives_of_words() -> None:
    texts = ["a hat sat", "the cat sat", "the hat sat", "a c at sat", "a cat", "a bat sat"]
    assert of_words(["a", "cat", "sat"], [text.split() for text in texts]) == [["the"], ["hat", "c at", "bat"], []]


def test_uploads(client: Client) -> None:
    root = client.bench.project.root
    picture, marked = (root / "a.png").read_bytes(), (root / "a.xml").read_bytes().replace(b"\n", b"\r\n")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("export/new.png", picture)
        file.writestr("export/page/new.xml", marked)
        file.writestr("export/.hidden.png", picture)
        file.writestr("../../../evil.png", picture)
    stored = client.upload(
        ("a.png", picture), ("broken.png", picture[:500]), ("x.zip", archive.getvalue()), ("y.exe", b"")
    )
    assert [(one["name"], one["stored"], bool(one["error"])) for one in stored] == [
        ("a.png", "a-2.png", False),
        ("broken.png", "", True),
        ("export/new.png", "new.png", False),
        ("../../../evil.png", "evil.png", False),
        ("y.exe", "", True),
        ("export/page/new.xml", "new.xml", False),
    ]
    assert len(client.page("new.png")["lines"]) == 3
    assert (root / "new.xml").read_bytes() == marked.replace(b'"a.png"', b'"new.png"')
    assert not any((folder / "evil.png").exists() for folder in root.parents)
    assert not list(root.glob(".*.tmp"))
    assert "is kept" not in json.dumps(stored)
    refused = [("a.xml", marked), *((f"{name}.exe", b"") for name in "bcdef")]
    found = client("POST", "/api/pages", 400, files=[("file", one) for one in refused])
    errors = [one["error"] for one in found["files"]]
    assert (len(errors), "no image" in errors[-1]) == (6, True)
    assert found["error"] == f"{'; '.join(errors[:3])}; and 3 more"


def test_a_pdf_becomes_pages(client: Client) -> None:
    pytest.importorskip("pypdfium2")
    from PIL import Image

    root, pdf = client.bench.project.root, io.BytesIO()
    with Image.open(root / "a.png") as first, Image.open(root / "b.png") as second:
        first.save(pdf, "PDF", save_all=True, append_images=[second], resolution=300)
        size = first.size
    stored = client.upload(("my letters.pdf", pdf.getvalue()), ("bad.pdf", b"%PDF-1.4 nothing"))
    assert [one["stored"] for one in stored] == ["my letters-001.jpg", "my letters-002.jpg", ""]
    assert "can't be rendered" in stored[2]["error"]
    page = client.page("my letters-001.jpg")
    assert (page["width"], page["height"]) == pytest.approx(size, abs=2)


def test_a_tiff_of_several_pages_becomes_pages(client: Client) -> None:
    from PIL import Image

    root, whole, cut, single = client.bench.project.root, io.BytesIO(), io.BytesIO(), io.BytesIO()
    with Image.open(root / "a.png") as first, Image.open(root / "b.png") as second:
        frames = [first.convert("L"), second.convert("RGB"), first.convert("1"), first.convert("CMYK")]
        frames[0].save(whole, "TIFF", save_all=True, append_images=frames[1:], dpi=(400, 400))
        frames[0].save(cut, "TIFF", save_all=True, append_images=frames[:1])
        frames[0].save(single, "TIFF")
    sent = [("my letters.tif", whole.getvalue()), ("cut.tiff", cut.getvalue()[:-2000]), ("one.tif", single.getvalue())]
    stored = client.upload(*sent)
    assert [one["stored"] for one in stored] == [*(f"my letters-00{n}.png" for n in range(1, 5)), "", "one.tif"]
    assert "cut.tiff" in stored[4]["error"]
    for name, frame in zip(("001", "002", "003"), frames, strict=False):
        with Image.open(root / f"my letters-{name}.png") as kept:
            assert kept.mode == frame.mode
            assert kept.tobytes() == frame.tobytes()
            assert kept.info["dpi"] == pytest.approx((400, 400), abs=0.1)
    assert len(client.pages()) == 7
    assert client.page("my letters-004.png")["state"] == "new"
    read = client.http.post("/api/read?lines=line", content=whole.getvalue(), headers={"content-type": "image/tiff"})
    assert read.status_code == 200, read.text
    assert [page["name"] for page in read.json()["pages"]] == [f"request-000{n}.png" for n in range(1, 5)]


def test_a_broken_page_stops_no_job(client: Client) -> None:
    (client.bench.project.root / "c.png").write_bytes(b"nothing")
    pages = client.pages()
    ids = [pages[name]["id"] for name in ("c.png", "a.png")]
    job = client.done(client("POST", "/api/jobs", 202, json={"kind": "read", "pages": ids}))
    assert job["state"] == "done"
    assert len(job["progress"]["faults"]) == 1
    assert client.pages()["a.png"]["state"] == "read"
    assert str(client.bench.project.root) not in json.dumps(job)
    client("POST", "/api/jobs", 404, json={"kind": "read", "pages": ["gone"]})
    client("GET", "/api/jobs/999", 404)
    client("POST", f"/api/jobs/{job['id']}/stop", 400)
    client("POST", f"/api/jobs/{job['id']}/resume", 400)


def test_a_line_that_no_network_can_read_stops_no_page(client: Client, drawn: Path) -> None:
    path = client.bench.project.root / "a.png"
    (line,) = serve_pages.draw(path, serve_pages.lines_of(drawn)[:1])
    sheet = Image.new("L", (5000, 300), 255)
    sheet.paste(Image.open(path))
    sheet.save(path)
    hair = ((0, 250), (4999, 250), (4999, 251), (0, 251))
    lines = [Marked("l1", "", line.polygon, line.baseline, ""), Marked("hair", "", hair, (), "")]
    xml.write(page_format.new(path.name, sheet.size, lines), path.with_suffix(".xml"))
    page = client.page("a.png")
    job = client.done(client("POST", "/api/jobs", 202, json={"kind": "read", "pages": [page["id"]]}))
    assert [found["state"] for found in client.page("a.png")["lines"]] == ["read", "empty"]
    (fault,) = job["progress"]["faults"]
    assert fault.startswith("a.png: hair: ")


def test_a_busy_server_ends_no_job(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, read, reader = client.pages(), project_pages.read_page, client.bench.reader
    ids = [pages[name]["id"] for name in ("a.png", "b.png")]

    def busy(*args: Any) -> Any:
        waiting = 20_000 if args[3] == ids[0] else 0  # lines of others
        reader.waiting += waiting
        try:
            return read(*args)
        finally:
            reader.waiting -= waiting

    monkeypatch.setattr(project_pages, "read_page", busy)
    job = client.done(client("POST", "/api/jobs", 202, json={"kind": "read", "pages": ids}))
    assert (job["state"], job["progress"]["done"]) == ("done", 2)
    assert job["progress"]["faults"] == ["a.png: 20000 lines are waiting to be read; try again later"]
    assert client.pages()["b.png"]["state"] == "read"


def test_a_job_that_is_resumed_still_names_the_pages_that_are_broken(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    (client.bench.project.root / "c.png").write_bytes(b"nothing")
    pages, read = client.pages(), project_pages.read_page
    ids = [pages[name]["id"] for name in ("c.png", "a.png", "b.png")]

    def stopping(*args: Any) -> Any:
        if args[3] == ids[1]:
            (job,) = client.bench.store.jobs()
            client.bench.jobs.stop(job.id)
        return read(*args)

    with monkeypatch.context() as patch:
        patch.setattr(project_pages, "read_page", stopping)
        job = client.done(client("POST", "/api/jobs", 202, json={"kind": "read", "pages": ids}))
    assert (job["state"], job["progress"]["done"]) == ("stopped", 2)
    job = client.done(client("POST", f"/api/jobs/{job['id']}/resume", 202))
    assert (job["state"], len(job["progress"]["faults"])) == ("done", 1)


def test_reading_lines_again_needs_the_present_revision(client: Client) -> None:
    page = client.page("a.png")
    typed = client(
        "PATCH",
        f"/api/pages/{page['id']}/lines/l1",
        json={"text": "typed, not accepted yet", "checked": False},
        headers={"If-Match": page["lines"][0]["revision"]},
    )
    assert "changed in another window" in client.edit(page, {"read": ["l1"]}, 409)["error"]
    assert client.page("a.png") == typed
    assert client.edit(typed, {"read": ["l1"]})["lines"][0]["state"] == "read"


def test_files_that_can_not_be_read_do_not_fill_the_disk(client: Client) -> None:
    sent = {"files": [("file", ("x.xml", b"<a/>"))]}
    assert client.done(client("POST", "/api/read?wait=false", 202, **sent))["state"] == "failed"
    assert list(client.bench.incoming.iterdir()) == []


def test_requests_at_once_forget_old_results_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwr.serve.workbench.MOST_RESULTS", 1)
    old, listed = client.bench.incoming / "result-0", Path.glob
    old.write_bytes(b"")

    def glob(folder: Path, pattern: str) -> list[Path]:
        found = list(listed(folder, pattern))
        old.unlink(missing_ok=True)  # by another request
        return found

    sent = {"content": (client.bench.project.root / "b.png").read_bytes(), "headers": {"content-type": "image/png"}}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "glob", glob)
        job = client("POST", "/api/read?wait=false", 202, **sent)
    assert client.done(job)["state"] == "done"


def test_deleting_the_database_loses_no_correction(client: Client, model: Path) -> None:
    page = client.page("a.png")
    client.correct(page, page["lines"][0], "kept")
    root = client.bench.project.root
    client.http.__exit__()
    (root / ".hwr/state.sqlite").write_bytes(b"damaged" * 1000)
    (root / ".hwr/incoming/job-x/files").mkdir(parents=True)
    bench = Workbench(root, str(model), ["engine.device=cpu"], find=serve_pages.find)
    try:
        found = {one.name: one for one in bench.project.pages()}["a.png"]
        assert (found.lines[0].text, found.lines[0].state) == ("kept", "checked")
        assert bench.store.jobs() == []
        assert list(bench.incoming.iterdir()) == []  # what clients sent before is of no use
    finally:
        bench.close()


def test_what_is_missing_is_made_again_or_reported(client: Client) -> None:
    project = client.bench.project
    page = client.page("a.png")
    for name in ("versions", "incoming", "pictures"):
        shutil.rmtree(project.hidden / name, ignore_errors=True)
    page = client.correct(page, page["lines"][0], "mine")
    assert "mine" in (project.root / "a.xml").read_text(encoding="utf-8")
    assert client.http.get("/api/export?format=txt").status_code == 200
    assert client.http.get(f"/api/pages/{page['id']}/picture").status_code == 200
    shutil.rmtree(client.bench.incoming)
    sent = {"content": (project.root / "b.png").read_bytes(), "headers": {"content-type": "image/png"}}
    assert client.done(client("POST", "/api/read?wait=false", 202, **sent))["state"] == "done"
    (project.root / "a.png").unlink()
    for path in ("picture", "picture?width=320", "lines/l1/picture", "lines/l1/alternatives"):
        error = client("GET", f"/api/pages/{page['id']}/{path}", 404 if "lines" in path else 400)["error"]
        assert "a.png: " in error
        assert str(project.root) not in error


def test_a_full_disk_is_reported(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    page = client.page("a.png")
    sent = {"content": b"", "headers": {"content-type": "image/png"}}
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        for method, address, more in (("GET", "/api/export", {}), ("POST", "/api/read?wait=false", sent)):
            assert "disk of the server is full" in client(method, address, 507, **more)["error"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left" in client.correct(page, page["lines"][0], "mine", 507)["error"]
        assert client.http.get(f"/api/pages/{page['id']}/picture").status_code == 200
        picture = (client.bench.project.root / "a.png").read_bytes()
        error = client("POST", "/api/pages", 400, files={"file": ("new.png", picture)})["error"]
        assert error.startswith("new.png: could not be written: No space left")
    client.correct(page, page["lines"][0], "mine")


HUGE = 10**400


@pytest.mark.parametrize("id", [2**63, 10**30, "9" * 5000, -1, "x", "²"])
def test_jobs_that_can_not_be(client: Client, id: object) -> None:
    for method, path in (("GET", ""), ("GET", "/result"), ("POST", "/stop"), ("POST", "/resume")):
        assert "no job" in client(method, f"/api/jobs/{id}{path}", 404)["error"]


def test_bodies_are_obeyed_or_refused(client: Client) -> None:
    def post(path: str, body: str, method: str = "POST", revision: str = "") -> Any:
        headers = {"content-type": "application/json", "if-match": revision}
        return client.http.request(method, path, content=body, headers=headers)

    page = client.page("a.png")
    page = client.correct(page, page["lines"][0], "mine")
    address, line = f"/api/pages/{page['id']}", page["lines"][0]
    before = (client.bench.project.root / "a.xml").read_bytes()
    shape = [[0, 0], [90, 0], [90, 30]]
    away = [[x + 500_000, y] for x, y in shape]
    for path, body in (
        ("/api/jobs", {"kind": "read", "page": [page["id"]]}),
        ("/api/jobs", {"kind": "read", "pages": ["\ud800"]}),
        ("/api/jobs", {"kind": "read", "pages": "all"}),
        ("/api/jobs", {"kind": "read", "given": "yes"}),
        ("/api/jobs", {"kind": "read", "minutes": 1}),
        ("/api/jobs", {"kind": "train", "minutes": True}),
        ("/api/jobs", {"kind": "train", "minutes": 0}),
        ("/api/jobs", {"kind": "train", "minutes": HUGE}),
        ("/api/jobs", {"kind": "train", "pages": []}),
        ("/api/model", {"name": "\ud800"}),
        ("/api/model", {"name": "base", "re-read": False}),
        ("/api/session", {"token": "\ud800"}),
        *((address, {"split": {"line": "l1", "x": x, "at": 1}}) for x in (HUGE, -1, True, "1", None, 1e308)),
        *((address, {"split": {"line": "l1", "x": 100, "at": at}}) for at in (HUGE, 10**30, -3, True, 5, 1.0)),
        (address, {"split": {"line": "\ud800", "x": 100, "at": 1}}),
        (address, {"split": {"line": "l1", "x": 100, "at": 1, "y": 1}}),
        (address, {"add": {"polygon": away}}),
        (address, {"add": {"polygon": [[-x - 1, y] for x, y in shape]}}),
        (address, {"add": {"polygon": shape, "before": "l1"}}),
        (address, {"move": {"line": "l1", "before": "l2"}}),
        (address, {"delete": ["l1"], "check_all": True}),
        (address, {"restore": "1"}),
    ):
        found = post(path, json.dumps(body), revision=page["revision"])
        assert found.status_code == 400, (body, found.text)
        assert found.json()["error"]
    assert post(address, json.dumps({"restore": HUGE}), revision=page["revision"]).status_code == 404
    for body in (
        {"text": "\ud800", "checked": True},
        {"text": "other", "checked": True, "polygon": shape},
        {"polygon": away},
        {"restore": {"text": "other", "state": "done", "confidence": None}},
        {"restore": {"text": "\x00", "state": "given", "confidence": None}},
        {"restore": {"text": "other", "state": "read", "confidence": None, "checked": True}},
    ):
        assert post(f"{address}/lines/l1", json.dumps(body), "PATCH", line["revision"]).status_code == 400, body
    assert (client.bench.project.root / "a.xml").read_bytes() == before
    assert client.get("/api/jobs")["jobs"] == []


def test_the_document_describes_every_route(client: Client) -> None:
    document = client.get("/api/openapi.json")
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    served = {(r.path.replace(":path", ""), m) for r in API for m in (r.methods or ()) if m != "HEAD"}
    assert described == served
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def test_health_and_model(client: Client) -> None:
    assert client.get("/api/health")["status"] == "ok"
    about = client.get("/api/model")
    assert about["current"] == "base"
    assert about["alphabet"] == client.bench.reader.recognizer.alphabet.characters


def test_files_are_read_without_the_project(client: Client, drawn: Path) -> None:
    root, line = client.bench.project.root, serve_pages.lines_of(drawn)[0]
    post = client.http.post
    content = line.image.read_bytes()
    one = post("/api/read?lines=line", content=content, headers={"content-type": "image/png"}).json()["pages"][0]
    assert one["text"] == client.bench.reader.recognizer.read(line.image).text
    parts = [("file", ("a.png", (root / "a.png").read_bytes())), ("file", ("a.xml", (root / "a.xml").read_bytes()))]
    page = post("/api/read?characters=true", files=parts).json()["pages"][0]
    assert [found["id"] for found in page["lines"]] == ["l1", "l2", "l3"]
    assert page["lines"][0]["characters"]
    for kind, begin in (
        ("txt", b""),
        ("tsv", b"image\tline\t"),
        ("page", b"<?xml"),
        ("alto", b"<?xml"),
        ("hocr", b"<?xml"),
        ("html", b"<!doctype"),
    ):
        found = post(f"/api/read?format={kind}", files=parts)
        assert found.status_code == 200, found.text
        assert found.content.lower().startswith(begin)
        assert "a.png" in found.text or kind == "txt"
        assert str(client.bench.incoming) not in found.text
    text = post("/api/read?format=txt", files=parts).text
    assert text.splitlines() == [found["text"] for found in page["lines"]]
    # The image of a PAGE file is the one that it names, also in capitals.
    content = parts[1][1][1].replace(b"a.png", b"IMG.PNG")
    other = [("file", ("IMG.PNG", parts[0][1][1])), ("file", ("page.xml", content))]
    assert post("/api/read?format=txt", files=other).text == text
    job = client("POST", "/api/read?format=txt&wait=false", 202, files=parts)
    client.get(f"/api/jobs/{job['id']}")
    assert client.done(job)["state"] == "done"
    assert client.http.get(f"/api/jobs/{job['id']}/result").text == text
    assert sorted(path.name for path in client.bench.incoming.iterdir()) == [f"result-{job['id']}"]
    assert set(client.pages()) == {"a.png", "b.png"}
    for query, sent in (
        ("format=exe", parts),
        ("lines=x", parts),
        ("", [("file", ("x.exe", b"x"))]),
        ("", [("file", ("x.png", b"x"))]),
        ("", [("file", ("x.xml", b"<a/>"))]),
        ("", [("file", ("x.xml", parts[1][1][1]))]),
    ):
        error = client("POST", f"/api/read?{query}", 400, files=sent)["error"]
        assert str(root) not in error
        assert "/tmp" not in error
    client("POST", "/api/read", 400, content=b"x", headers={"content-type": "text/plain"})
    client("POST", "/api/read?lines=line", 400, content=b"x", headers={"content-type": "image/png"})


def test_an_export_names_broken_pages(client: Client) -> None:
    page = client.page("a.png")
    client.correct(page, page["lines"][0], "mine")
    root = client.bench.project.root
    names = [f"{i:02} ä,%.png" for i in range(files.MOST_NAMED + 1)]
    for name in names:
        (root / name).write_bytes(b"nothing")
    for kind in ("txt", "page", "table"):
        found = client.http.get(f"/api/export?format={kind}")
        assert found.status_code == 200
        assert found.headers["x-broken-count"] == str(len(names))
        assert [unquote(name) for name in found.headers["x-broken-pages"].split(",")] == names[: files.MOST_NAMED]
    broken = client.page(names[0])
    assert (
        client("GET", f"/api/export?format=txt&page={page['id']}&page={broken['id']}", 400)["error"] == broken["error"]
    )
    for name in names:
        (root / name).unlink()
    assert "x-broken-count" not in client.http.get("/api/export?format=txt").headers


def test_pages_are_exported(client: Client, drawn: Path) -> None:
    page = client.page("a.png")
    page = client.edit(page, {"read": ["l1", "l2", "l3"]})
    client.correct(page, page["lines"][0], "a & <b>")
    texts = ["a & <b>", *(line["text"] for line in page["lines"][1:])]

    def export(query: str) -> bytes:
        found = client.http.get(f"/api/export?{query}")
        assert found.status_code == 200, found.text
        assert "attachment" in found.headers["content-disposition"]
        return bytes(found.content)

    assert export("format=txt").decode().splitlines() == texts
    assert export(f"format=txt&page={page['id']}").decode().splitlines() == texts
    with zipfile.ZipFile(io.BytesIO(export("format=page"))) as archive:
        assert archive.read("a.xml") == (client.bench.project.root / "a.xml").read_bytes()
    with zipfile.ZipFile(io.BytesIO(export("format=alto"))) as archive:
        assert b"&amp;" in archive.read("a.xml")
    with zipfile.ZipFile(io.BytesIO(export("format=table"))) as archive:
        rows = [json.loads(row) for row in archive.read("metadata.jsonl").splitlines()]
        assert [row["text"] for row in rows] == ["a & <b>"]
        assert archive.read(rows[0]["file_name"]).startswith(b"\x89PNG")
    assert b"a &amp; &lt;b&gt;" in export("format=html")
    assert export("format=tsv").decode().splitlines()[1].startswith("a.png\tl1\ta & <b>\t")
    assert json.loads(export("format=json").splitlines()[0])["image"] == "a.png"
    client("GET", "/api/export?format=exe", 400)
    client("GET", "/api/export?format=txt&page=gone", 404)
    pytest.importorskip("pikepdf")
    pypdfium2 = pytest.importorskip("pypdfium2")
    with pypdfium2.PdfDocument(export("format=pdf")) as document:
        assert texts[1].split()[0] in document[0].get_textpage().get_text_range()
    assert list(client.bench.incoming.iterdir()) == []
