"""What the workbench and the REST API read: uploads, and the JSON of requests. Also files of several pages."""

import functools
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hwr import Error, checkpoint
from hwr.images import documents, load
from torturing import readers
from torturing.readers import Reader, small_checkpoint


def _picture(kind: str, pages: int = 1) -> bytes:
    rng, file = np.random.default_rng(0), io.BytesIO()
    made = [Image.fromarray(rng.integers(0, 256, (20, 50), np.uint8)) for _ in range(pages)]
    made[0].save(file, kind, **({"save_all": True, "append_images": made[1:]} if pages > 1 else {}))
    return file.getvalue()


# --- Files of several pages


def _pages(path: Path) -> None:
    """Each page of a PDF or TIFF; a page that can't be read does not stop the others."""
    faults = []
    for page in documents.pages(path)[:4]:
        try:
            load.size(Path(page))
            load.read(page)
        except Error as error:
            faults.append(error)
    if faults:
        raise faults[0]


# --- Uploads


def _uploaded(path: Path) -> None:
    """A file given to the workbench, whose pages are then looked at and corrected."""
    from hwr.serve.project import edits, uploads
    from hwr.serve.project.folder import Project

    folder = path.parent / "project"
    folder.mkdir()
    Image.fromarray(np.full((60, 200), 230, np.uint8)).save(folder / "good.png")
    project = Project(folder)
    with open(path, "rb") as file:
        stored = uploads.store(project, [uploads.Upload(path.name, file)])
    for page in project.pages():
        for line in page.lines[:1]:
            edits.set_text(project, page.id, line.id, "a new text", True, line.revision)
            project.page(page.id)
    if faults := [one.error for one in stored if one.error]:
        raise Error(faults[0])


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("scans/a.png", _picture("PNG"))
        out.writestr("scans/good.xml", readers.READERS["page"].good()[0])
    return file.getvalue()


def _marked() -> list[bytes]:
    return readers.READERS["page"].good() + readers.READERS["alto"].good()


# --- Requests

_BODIES: tuple[dict[str, Any], ...] = (
    {"text": "new", "checked": True},
    {"polygon": [[1, 1], [9, 1], [9, 9]], "baseline": [[1, 8], [9, 8]]},
    {"restore": {"text": "old", "state": "read", "confidence": 0.5}},
    {"add": {"polygon": [[1, 1], [9, 1], [9, 9]], "after": "l1"}},
    {"delete": ["l1"]},
    {"move": {"line": "l1", "after": "l2"}},
    {"split": {"line": "l1", "x": 20.5, "at": 3}},
    {"merge": ["l1", "l2"]},
    {"restore": 1},
    {"name": "model-1", "reread": False},
    {"token": "abc"},
    {"kind": "read", "pages": ["x"], "given": True},
)


@functools.cache
def _client(folder: Path) -> Any:
    """A server in this process, with a page; started at the first request, since its threads would not survive a fork."""
    from starlette.testclient import TestClient

    from hwr.serve.api.app import build
    from hwr.serve.workbench import Workbench

    checkpoint.save(folder / "model.safetensors", small_checkpoint())
    project = folder / "project"
    project.mkdir()
    overrides = ["engine.device=cpu", "engine.threads=1"]
    return TestClient(
        build(Workbench(project, str(folder / "model.safetensors"), overrides)), "http://localhost"
    ), project


def _requested(path: Path) -> None:
    """A body sent to everything that takes one. Only the answers of an error of the client's are allowed."""
    client, project = _client(path.parent.parent)
    for old in project.glob("*"):
        if old.is_file():
            old.unlink()
    Image.fromarray(np.full((60, 200), 230, np.uint8)).save(project / "page.png")
    (project / "page.xml").write_bytes(readers.READERS["page"].good()[0])
    (page,) = client.get("/api/pages").json()["pages"]
    about = client.get(f"/api/pages/{page['id']}").json()
    line = about["lines"][0]
    refused = True
    for method, where, revision in (
        ("PATCH", f"/api/pages/{page['id']}/lines/{line['id']}", line["revision"]),
        ("POST", f"/api/pages/{page['id']}", f'"{about["revision"]}"'),
        ("POST", "/api/jobs", ""),
        ("POST", "/api/model", ""),
        ("POST", "/api/session", ""),
    ):
        headers = {"Content-Type": "application/json", "If-Match": revision}
        answer = client.request(method, where, content=path.read_bytes(), headers=headers)
        if answer.status_code >= 500 and answer.status_code != 503:
            raise AssertionError(f"{method} {where}: {answer.status_code} {answer.text}")
        refused &= answer.status_code >= 400
        answer.json()
    client.get(f"/api/pages/{page['id']}").json()
    client.get("/api/pages").json()
    if refused:
        raise Error("refused")


def _good(*makers: Callable[[], bytes]) -> Callable[[], list[bytes]]:
    return lambda: [make() for make in makers]


SERVED: dict[str, Reader] = {
    "pdf": Reader(
        ".pdf",
        _pages,
        _good(lambda: _picture("PDF"), lambda: _picture("PDF", 3)),
        (b"obj", b"/Kids[1 0 R]", b">>"),
        0.3,
    ),
    "tiff": Reader(".tif", _pages, _good(lambda: _picture("TIFF", 3)), share=0.5),
    "upload image": Reader(".png", _uploaded, _good(lambda: _picture("PNG"), lambda: _picture("JPEG")), share=0.3),
    "upload pdf": Reader(".pdf", _uploaded, _good(lambda: _picture("PDF", 2)), share=0.1),
    "upload zip": Reader(".zip", _uploaded, _good(_archive), (b"../", b"/etc/", b"__MACOSX/"), 0.3),
    "upload page": Reader(".xml", _uploaded, _marked, (b"1e19", b"-1", b"nan", b"id=''", b"&#x9b;"), 0.5),
    "request": Reader(
        ".json",
        _requested,
        lambda: [json.dumps(body).encode() for body in _BODIES],
        (b'"\\ud800"', b'"\\u0000"', b"null", b"[]", b"{}", b"1e999", b"-1", b"NaN", b'"l1"', b"true"),
        0.3,
    ),
}
