"""The workbench in a real browser: from an empty folder to a better model, and on after the server was killed."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hwr.data.formats import page_edit, xml

from . import forked, serve_pages
from .conftest import REPOSITORY

for module in ("starlette", "uvicorn", "multipart", "onnxruntime", "pikepdf"):
    pytest.importorskip(module)

SIZE = (1280, 900)

# A folder for pictures for the documentation: HWR_SCREENSHOTS=docs pytest tests/test_serve_browser.py
SCREENSHOTS = os.environ.get("HWR_SCREENSHOTS")


class Server:
    """`hwr serve` in its own process."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self.port = folder, model, 0
        self.more: tuple[str, ...] = ()
        self.process: Any = None
        self.said = folder.with_name("serve.log")

    def start(self) -> None:
        command = ["-m", "hwr", "serve", self.folder, "--port", self.port, *self.more]
        settings = ["engine.device=cpu", "engine.threads=1", "augment.p=0"]
        if SCREENSHOTS:  # with the bundled model, which reads
            settings += ["decode.name=greedy", "train.epochs=16", "train.lr=0.001"]
        else:
            command += ["--checkpoint", self.model]
            settings += ["train.epochs=40", "train.lr=0.006", "train.patience=40"]
        command += [part for key in settings for part in ("--set", key)]
        self.said.unlink(missing_ok=True)
        self.process = forked.start(self.said, *command)
        while self.process.exitcode is None:
            said = self.said.read_text() if self.said.exists() else ""
            if found := re.search(r"open http://127.0.0.1:(\d+)/.*\n", said):
                self.port = int(found[1])
                return
            self.process.join(0.02)
        raise AssertionError(self.said.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        self.process.terminate()
        self.process.join(120)
        assert self.process.exitcode is not None


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "letters"
    folder.mkdir()
    found = Server(folder, model)
    found.start()
    yield found
    found.end()


class User:
    """Somebody at the browser."""

    def __init__(self, browser: Any, server: Server) -> None:
        self.browser, self.server = browser, server

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/"

    def find(self, selector: str) -> list[Any]:
        found: list[Any] = self.browser.find_elements("css selector", selector)
        return found

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 100) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except Exception as error:  # what was found is gone, or not drawn yet
                if "StaleElement" not in type(error).__name__ and not isinstance(error, IndexError):
                    raise
            time.sleep(0.05)
        raise AssertionError(f"waited for {what}; the page says: {[body.text for body in self.find('body')]}")

    def see(self, text: str, seconds: float = 100) -> None:
        self.wait(lambda: text in self.find("body")[0].text, repr(text), seconds)

    def click(self, label: str) -> None:
        def named() -> Any:
            buttons = [b for b in self.find("button, a.button") if b.text == label and b.is_displayed()]
            return next((b for b in buttons if b.is_enabled()), None)

        self.wait(named, f"a button {label}").click()

    def drop(self, *paths: Path) -> None:
        """Drop files onto the page."""
        files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
        self.browser.execute_script(
            """const data = new DataTransfer();
            for (const [name, content] of arguments[0]) {
              const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
              data.items.add(new File([bytes], name, { type: "image/png" }));
            }
            for (const type of ["dragenter", "dragover", "drop"])
              document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));""",
            files,
        )

    def open(self, name: str) -> None:
        """Open a page from the list of pages."""
        code = """const found = [...document.querySelectorAll("a.name")].find((a) => a.textContent === arguments[0]);
          found?.click(); return Boolean(found);"""
        self.wait(lambda: self.browser.execute_script(code, name), name)

    @property
    def field(self) -> Any:
        return self.find("#text")[0]

    @property
    def text(self) -> str:
        return str(self.field.get_attribute("value"))

    @property
    def entries(self) -> list[tuple[str, str, str]]:
        """The text, classes and mark of each line in the list."""
        code = """return [...document.querySelectorAll(".entry")].map(
          (e) => [e.innerText, e.className, e.getAttribute("aria-current")])"""
        return [tuple(entry) for entry in self.browser.execute_script(code)]

    @property
    def line(self) -> int:
        """The number of the current line, from 0."""
        return [current for _, _, current in self.entries].index("true")

    def choose(self, number: int) -> None:
        """Click on a line of the list."""
        self.browser.execute_script("document.querySelectorAll('.entry')[arguments[0]].click()", number)

    def keys(self, *keys: str) -> None:
        self.field.send_keys(*keys)

    def type(self, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        self.keys(Keys.CONTROL, "a", Keys.NULL, text or Keys.DELETE)

    def saved(self) -> None:
        self.wait(lambda: self.find(".saved")[0].text == "Saved", "the corrections to be saved")

    def console(self) -> list[str]:
        """The errors in the browser's console since the last call."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]

    def wide(self) -> bool:
        """Whether something sticks out of the window."""
        return bool(self.browser.execute_script("return document.documentElement.scrollWidth > innerWidth"))


@pytest.fixture
def user(browser: Any, server: Server, tmp_path: Path) -> Iterator[User]:
    before = browser.get_window_size()
    browser.set_window_size(*SIZE)
    behavior = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
    browser.get_log("browser")  # what others have left there
    yield User(browser, server)
    browser.get("about:blank")
    browser.set_window_size(before["width"], before["height"])
    browser.get_log("browser")  # lest the next test find our errors


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """axe-core's script, from npm; None where npm can't get it."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        return None
    command = [npm, "pack", "axe-core@4", "--prefer-offline", "--silent"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    (path,) = folder.glob("*.tgz")
    with tarfile.open(path) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()


def faults(user: User, axe: str | None) -> list[str]:
    """The serious accessibility problems of the page that is open."""
    if axe is None:
        return []
    user.browser.execute_script(axe)
    found = user.browser.execute_async_script(
        "const done = arguments[0]; axe.run().then((r) => done(r.violations), (e) => done([{ id: String(e) }]));"
    )
    return [
        f"{one['id']}: {one.get('help')}: {[node['html'] for node in one.get('nodes', [])][:3]}"
        for one in found
        if one.get("impact") in ("serious", "critical", None)
    ]


@pytest.mark.timeout(900)
def test_the_whole_path(user: User, axe: str | None, drawn: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    lines = serve_pages.lines_of(drawn)[:16]
    pages = [tmp_path / f"page {i}.png" for i in (1, 2)]
    serve_pages.write(pages[0], lines[:8])  # has a PAGE file
    serve_pages.draw(pages[1], lines[8:])  # its lines are to be found
    # A transcription that no model can know, but any can learn: the small one, of the same text, whatever it reads.
    texts = [line.text.replace("e", "é") if SCREENSHOTS else "un été à Évian" for line in lines]
    truths = {pages[0].name: texts[:8], pages[1].name: texts[8:]}

    # Add two pages and read them.
    user.browser.get(user.address)
    user.see("Drop page images here")
    assert not faults(user, axe)
    user.drop(*pages, pages[0].with_suffix(".xml"))
    user.see("2 pages")
    user.click("Read all")
    user.wait(lambda: len(user.find(".pill.read")) == 2, "both pages to be read", 200)
    assert not faults(user, axe)
    screenshot(user, "pages")

    # Correct them, by keyboard only.
    for name, texts in truths.items():
        user.open(name)
        user.wait(lambda: user.entries, "the lines")
        assert len(user.entries) == len(texts), user.entries
        user.choose(0)
        assert user.wait(lambda: user.find(".line-picture")[0].get_property("naturalWidth"), "the line's picture")
        if name == pages[0].name:
            screenshot(user, "page")
            try_keys(user, texts)
            assert not faults(user, axe)
        for number, text in enumerate(texts):
            assert user.line == number
            if user.text != text:
                user.type(text)
            user.keys(Keys.ENTER)
        user.saved()
        user.wait(lambda: user.find(".pill.done"), "the page to be done")
        user.click("← Pages")
    user.see("16 checked")
    assert not user.console()

    # Killed and started again, the server has everything; and a text that is being typed is kept in the window.
    user.server.kill()
    user.server.start()
    user.browser.refresh()
    user.see("16 checked")
    user.console()

    # Train, and see fewer errors.
    user.click("Train")
    user.click("Train on my 16 corrected lines")
    user.wait(lambda: user.find('.run[data-state="done"]'), "the training", 400)
    verdict = user.find(".run p")[0].text
    before, after = map(float, re.findall(r"([\d.]+) (?:to|%)", verdict.replace("From ", ""))[:2])
    assert after < before, verdict
    user.see("in use")
    assert not faults(user, axe)
    screenshot(user, "training")

    # Export.
    user.click("← Pages")
    for kind, begin in (("pdf", b"%PDF"), ("page", b"PK")):
        user.click("Export")
        user.browser.execute_script(f"document.querySelector('dialog select').value = '{kind}'")
        user.wait(lambda: user.find("dialog button.primary"), "the dialog")[0].click()
        user.see(f"Exported letters-{kind}")
        path = user.wait(lambda kind=kind: list((tmp_path / "downloads").glob(f"letters-{kind}*[fp]")), "the file")[0]
        assert path.read_bytes().startswith(begin)
    for path in pages:
        root = xml.parse(user.server.folder / path.with_suffix(".xml").name)
        _, found, statuses = page_edit.parse(xml.text(root), path)
        assert [line.text for line in found.lines] == truths[path.name]
        assert all(status.checked for status in statuses)

    # On a phone.
    user.browser.set_window_size(390, 844)
    assert not user.wide()
    user.open(pages[0].name)
    user.wait(lambda: user.entries, "the lines")
    assert not user.wide()
    assert user.field.is_displayed()
    assert not faults(user, axe)
    screenshot(user, "phone")
    assert not user.console()
    if axe is None:
        pytest.skip("all but accessibility was tested: npm can't get axe-core")


def try_keys(user: User, texts: list[str]) -> None:
    """Type, undo, jump to an uncertain line, use an alternative."""
    from selenium.webdriver.common.keys import Keys

    first = user.text
    user.type("wrong")
    user.keys(Keys.ENTER)
    assert user.line == 1
    user.saved()
    assert user.entries[0][0] == "wrong"
    user.keys(Keys.CONTROL, "z", Keys.NULL)
    # The list shows several spaces as one.
    user.wait(lambda: user.entries[0][0].split() == first.split(), "the correction to be undone")
    user.saved()
    user.choose(0)
    uncertain = [i for i, (_, classes, _) in enumerate(user.entries) if "uncertain" in classes]
    if any(i > 0 for i in uncertain):
        user.keys(Keys.TAB)
        assert user.line == next(i for i in uncertain if i > 0)
        user.choose(0)
    # They may be drawn again meanwhile.
    if word := user.wait(lambda: [chip.text for chip in user.find(".under .chip")] or [""], "alternatives, if any")[0]:
        user.keys(Keys.ALT, "1", Keys.NULL)
        assert word in user.text
        user.keys(Keys.ESCAPE)
    user.choose(0)


TEXTS = ("one two", "three four", "five six", "seven eight")


class Other:
    """Another window or program that corrects the same project."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, method: str, path: str, body: Any = None, revision: str = "") -> Any:
        headers = {"content-type": "application/json", "if-match": f'"{revision}"'}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}api/{path}", content, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    @property
    def page(self) -> Any:
        """The only page."""
        return self.ask("GET", f"pages/{self.ask('GET', 'pages')['pages'][0]['id']}")

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The text and state of each of its lines."""
        return [(line["text"], line["state"]) for line in self.page["lines"]]

    def correct(self, number: int, text: str) -> None:
        page = self.page
        line = page["lines"][number]
        body = {"text": text, "checked": True}
        self.ask("PATCH", f"pages/{page['id']}/lines/{line['id']}", body, line["revision"])

    def read(self) -> None:
        """Start a reading."""
        self.ask("POST", "jobs", {"kind": "read", "pages": [self.page["id"]]})


@pytest.fixture
def other(user: User, drawn: Path) -> Other:
    """Another window, while the user has opened a page whose lines have texts that nobody has checked."""
    image = user.server.folder / "page.png"
    serve_pages.write(image, serve_pages.lines_of(drawn)[: len(TEXTS)], TEXTS)
    user.browser.get("about:blank")
    user.browser.get(user.address)
    user.open(image.name)
    user.wait(lambda: len(user.entries) == len(TEXTS), "the lines")
    return Other(user.address)


def test_the_keyboard_keeps_its_place(user: User, other: Other) -> None:
    def focused(what: str) -> str:
        return str(user.browser.execute_script(f"return document.activeElement.{what}"))

    # The link that skips the bar leads to the content of this view, not to another view.
    user.browser.execute_script("document.querySelector('.skip').click()")
    assert focused("id") == "main"
    user.wait(lambda: user.entries, "the page to stay")

    # An entry of the list is drawn again, when another window corrects its line and when it is checked.
    other.correct(1, "corrected")
    code = "[...document.querySelectorAll('#bar button')].find((b) => b.textContent === 'Read').click();"
    user.browser.execute_script(code + "document.querySelectorAll('.entry')[1].focus()")
    user.wait(lambda: user.entries[1][0] == "corrected", "the other's correction")
    assert focused("innerText") == "corrected"
    code = "return getComputedStyle(document.querySelectorAll('.entry')[arguments[0]], '::after').content"
    assert "\u2713" in user.browser.execute_script(code, 1)  # not by colour alone
    assert "?" in user.browser.execute_script(code, 0)
    names = [button.accessible_name for button in user.find(".toolbar button, .under button")]
    assert not [name for name in names if not any(c.isascii() and c.isalpha() for c in name)]

    # A new view begins at its content; choosing a page draws all pages again.
    user.browser.execute_script("location.hash = '#/'")
    user.wait(lambda: user.find(".card input"), "the pages")
    assert user.wait(lambda: focused("id") == "main", "the focus")
    assert user.find(".tools select")[0].accessible_name == "Sort by"

    def press_space() -> bool:
        user.find(".card input")[0].send_keys(" ")
        return True

    user.wait(press_space, "the page's box")
    user.click("Read 1")  # each end of a job draws all pages again
    user.wait(lambda: user.find(".card input")[0].is_selected(), "the page to be chosen")
    user.wait(press_space, "the page's box")
    user.wait(lambda: not user.find(".card input")[0].is_selected(), "the page not to be chosen")
    assert focused("type") == "checkbox"


def test_special_characters_are_inserted_with_the_keyboard(user: User, other: Other) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    # The small network has none.
    user.browser.execute_script(
        """const real = window.fetch;
        window.fetch = async (path, options) => {
          const answer = await real(path, options);
          return path === "/api/model" ? Response.json({ ...(await answer.json()), alphabet: "aäé" }) : answer;
        };"""
    )
    user.click("← Pages")
    user.open("page.png")
    user.wait(lambda: user.entries, "the lines")
    user.choose(0)
    user.browser.execute_script("document.querySelector('[aria-expanded]').focus()")
    ActionChains(user.browser).send_keys(Keys.ENTER, Keys.TAB, Keys.TAB, Keys.ENTER).perform()
    assert user.text == "éone two"
    assert user.browser.execute_script("return document.activeElement.id") == "text"


def test_accepting_nothing_leaves_nothing_to_undo(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    user.click("Accept all")
    user.wait(lambda: user.find(".pill.done"), "the page to be done")
    user.choose(0)
    user.type("mine")
    user.keys(Keys.ENTER)
    user.saved()
    user.browser.refresh()
    user.wait(lambda: user.entries, "the lines")
    user.click("Accept all")
    user.saved()
    assert not any(button.is_enabled() for button in user.find("button") if button.text == "Undo")
    assert other.lines[0] == ("mine", "checked")


def test_what_is_typed_counts_when_lines_change(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    user.choose(0)
    user.type("first")
    user.click("Merge")
    user.wait(lambda: other.lines[0] == ("first three four", "given"), "the merged line")
    user.wait(lambda: user.text == "first three four", "its text in the field")
    user.keys(Keys.ENTER)
    user.saved()
    assert other.lines[0] == ("first three four", "checked")

    # Undo, while something else is typed: first that, then the rest.
    user.choose(0)
    user.type("else")
    for wanted in ("first three four", "first three four", "first", "one two"):
        user.click("Undo")
        user.wait(lambda wanted=wanted: user.text == wanted, wanted)
    assert other.lines == [(text, "given") for text in TEXTS]

    # Characters beyond 16 bits count once; the state stays.
    user.choose(2)
    code = """const field = document.querySelector("#text"); field.value = arguments[0];
        field.dispatchEvent(new Event("input")); field.setSelectionRange(arguments[1], arguments[1]);"""
    user.browser.execute_script(code, "😀😀😀😀 one two", 8)
    user.click("Split")
    user.wait(lambda: other.lines[2:4] == [("😀😀😀😀", "given"), ("one two", "given")], "the parts")
    user.wait(lambda: user.text in ("one two", "😀😀😀😀"), "a part in the field")

    # Without a place there is nothing to split at.
    user.choose(0)
    user.click("Split")
    user.see("Put the cursor where the line is to be split")
    assert len(other.lines) == 5

    user.type("unsaved")
    user.click("Accept all")
    user.wait(lambda: user.find(".pill.done"), "the page to be done")
    assert other.lines[0] == ("unsaved", "checked")


def test_a_line_that_is_upside_down_is_split_from_its_right_end(user: User, other: Other) -> None:
    page = other.page
    line = page["lines"][0]
    xs, ys = zip(*line["polygon"], strict=True)
    right_to_left = [[max(xs), min(ys) + 5], [min(xs), min(ys) + 5]]
    body = {"polygon": line["polygon"], "baseline": right_to_left}
    other.ask("PATCH", f"pages/{page['id']}/lines/{line['id']}", body, line["revision"])
    user.browser.refresh()
    user.wait(lambda: len(user.entries) == len(TEXTS), "the lines")
    user.choose(0)
    user.wait(lambda: user.text == "one two", "the text")
    user.browser.execute_script("document.querySelector('#text').setSelectionRange(2, 2)")
    user.click("Split")
    user.wait(lambda: [text for text, _ in other.lines[:2]] == ["on", "e two"], "the parts")
    first, second = ([x for x, _ in line["polygon"]] for line in other.page["lines"][:2])
    assert max(first) == max(xs)
    assert min(first) == pytest.approx(max(xs) - (max(xs) - min(xs)) * 2 / 7, abs=2)
    assert max(second) == pytest.approx(min(first), abs=2)


def test_lines_are_added_and_reshaped_with_the_keyboard(user: User, other: Other) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(user.browser).send_keys(*keys).perform()

    def press_button(label: str) -> None:
        find = "[...document.querySelectorAll('.toolbar button')].find((b) => b.textContent === arguments[0]).focus()"
        user.browser.execute_script(find, label)
        press(Keys.ENTER)

    def polygon() -> Any:
        return other.page["lines"][1]["polygon"]

    user.choose(0)
    first = other.page["lines"][0]["polygon"]
    press_button("Add")
    user.see("Enter adds one below", 5)
    press(Keys.ENTER)
    user.wait(lambda: len(user.entries) == len(TEXTS) + 1 and user.line == 1, "the new line")
    height = first[2][1] - first[0][1]
    added = [[x, y + height] for x, y in first]
    assert polygon() == added
    user.wait(lambda: other.lines[1][1] == "read", "it to be read")
    user.saved()

    # Several keys are one change, whatever the server answers meanwhile.
    press_button("Shape")
    user.see("Arrow keys move it", 5)
    before = user.browser.execute_script("return document.querySelector('polygon.current').getAttribute('points')")
    press(Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_RIGHT)
    shown = user.browser.execute_script("return document.querySelector('polygon.current').getAttribute('points')")
    assert shown != before
    user.wait(lambda: polygon() != added, "the line to be moved")
    user.saved()
    moved = polygon()
    right, up = (now - then for now, then in zip(moved[0], added[0], strict=True))
    assert right > 0
    assert up == -3 * right
    assert moved == [[x + right, y + up] for x, y in added]
    assert shown == " ".join(f"{x},{y}" for x, y in moved)
    ActionChains(user.browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_DOWN, Keys.ARROW_LEFT).key_up(
        Keys.SHIFT
    ).perform()
    press_button("Shape")  # need not wait
    user.click("Undo")
    user.saved()
    assert polygon() == moved
    user.click("Undo")
    user.wait(lambda: polygon() == added, "the line to be where it was")
    user.saved()
    assert not user.console()


def test_a_corner_stays_where_it_is_dragged_to(user: User, other: Other) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    user.choose(0)
    user.click("Shape")
    before = other.page["lines"][0]["polygon"]
    drag = ActionChains(user.browser, duration=50)
    drag.click_and_hold(user.find(".handle")[0]).move_by_offset(9, -9).perform()
    shown = user.browser.execute_script("return document.querySelector('polygon.current').getAttribute('points')")
    assert shown != " ".join(f"{x},{y}" for x, y in before)
    # The server answers meanwhile: another window has corrected a line, and a reading shows it.
    other.correct(1, "there")
    code = "[...document.querySelectorAll('#bar button')].find((b) => b.textContent === 'Read').click()"
    user.browser.execute_script(code)
    user.wait(lambda: user.entries[1][0] == "there", "the other's correction")
    now = user.browser.execute_script("return document.querySelector('polygon.current').getAttribute('points')")
    drag.reset_actions()
    drag.release().perform()
    assert now == shown
    user.saved()
    assert " ".join(f"{x},{y}" for x, y in other.page["lines"][0]["polygon"]) == shown
    assert other.page["lines"][0]["polygon"][1:] == before[1:]
    assert not user.console()


def test_a_line_that_is_drawn_comes_after_those_above_it_in_its_column(user: User, other: Other) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    def corners(left: int, top: int) -> list[list[int]]:
        return [[left, top], [left + 100, top], [left + 100, top + 30], [left, top + 30]]

    texts = list(TEXTS)
    # Two columns; the first has a short line at its right, which reaches into the second.
    for number, place in enumerate([(20, 50), (130, 90), (225, 50), (225, 150)]):
        page = other.page
        line = page["lines"][number]
        body = {"polygon": corners(*place)}
        other.ask("PATCH", f"pages/{page['id']}/lines/{line['id']}", body, line["revision"])
    user.browser.refresh()
    user.wait(lambda: len(user.entries) == len(TEXTS), "the lines")
    for (left, top), wanted in (((130, 150), 2), ((225, 10), 3), ((225, 100), 5), ((20, 65), 1)):
        user.click("Fit")
        user.click("Add")
        code = "const { x, y, width } = document.querySelector('.sheet').getBoundingClientRect(); return [x, y, width];"
        x, y, width = user.browser.execute_script(code)
        scale = width / other.page["width"]
        drag = ActionChains(user.browser, duration=50).w3c_actions
        drag.pointer_action.move_to_location(round(x + left * scale), round(y + top * scale)).pointer_down()
        drag.pointer_action.move_to_location(
            round(x + (left + 100) * scale), round(y + (top + 30) * scale)
        ).pointer_up()
        drag.perform()
        texts.insert(wanted, "")
        user.wait(lambda: len(user.entries) == len(texts), "the new line")
        user.saved()
        new = [i for i, (text, state) in enumerate(other.lines) if state in ("read", "empty")]
        assert [text if i not in new else "" for i, (text, _) in enumerate(other.lines)] == texts


# Moves the current line down by a key, and at once tries to close the window. Returns whether the browser would ask first.
MOVE_AND_CLOSE = """const photo = document.querySelector(".photo");
    photo.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", cancelable: true }));
    return !dispatchEvent(new Event("beforeunload", { cancelable: true }));"""


def test_what_a_key_has_moved_is_sent_when_the_window_is_closed(user: User, other: Other) -> None:
    user.choose(0)
    user.click("Shape")
    before = other.page["lines"][0]["polygon"]
    assert user.browser.execute_script(MOVE_AND_CLOSE)
    user.browser.get("about:blank")
    user.wait(lambda: other.page["lines"][0]["polygon"] != before, "the line to be moved", 5)


def test_a_new_line_is_read_although_the_page_is_left(user: User, other: Other) -> None:
    user.choose(0)
    user.click("Add")
    code = """const photo = document.querySelector(".photo");
        photo.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", cancelable: true }));
        location.hash = "#/";"""
    user.browser.execute_script(code)
    user.wait(lambda: len(other.lines) == 5 and other.lines[1][1] == "read", "the new line to be read", 20)
    user.see("1 page")
    assert not user.find(".toast.error")
    assert not user.console()


@pytest.mark.parametrize("size", [(720, 380), (683, 320), (640, 256)])
def test_a_low_window_shows_the_photo(user: User, other: Other, size: tuple[int, int]) -> None:
    """As does a large zoom: 200 % of 1440 x 760 pixels, for example."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    user.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        user.browser.refresh()
        user.wait(lambda: user.entries, "the lines")
        user.find(".photo")[0].click()
        high = user.find(".photo")[0].rect["height"]
        assert 0.5 * height < high < 0.8 * height  # the rest is for scrolling
        hidden = """const { left, bottom } = document.querySelector(".photo").getBoundingClientRect();
          scrollBy(0, bottom - innerHeight);
          return Boolean(document.elementFromPoint(left + 9, innerHeight - 9)?.closest(".editor"))"""
        assert not user.browser.execute_script(hidden)
        user.find(".entry")[3].click()
        seen = """const { top, bottom } = document.querySelector("#text").getBoundingClientRect();
          return top >= 0 && bottom <= innerHeight"""
        user.wait(lambda: user.browser.execute_script(seen), "the field", 5)
        assert not user.wide()
    finally:
        user.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_phone_keeps_the_photo_in_sight(user: User, other: Other) -> None:
    user.browser.set_window_size(500, 760)
    user.browser.refresh()
    user.wait(lambda: user.entries, "the lines")
    for number in (3, 0, 3):
        user.choose(number)
        assert user.browser.execute_script("return scrollY") == 0


def test_reading_again_can_be_undone(user: User, other: Other) -> None:
    user.choose(1)
    user.type("typed")
    user.click("Reread")
    user.wait(lambda: other.lines[1][1] == "read", "the line to be read")
    user.click("Undo")
    user.wait(lambda: other.lines[1] == ("typed", "given"), "the text to be back")
    user.wait(lambda: user.text == "typed", "it in the field")


def test_typing_never_overwrites_another_window(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    user.choose(2)
    user.type("here")
    other.correct(2, "there")
    # While a page is read, the window asks for it again and again; here, the reading does not end.
    other.read()
    user.browser.execute_script(
        """const real = window.fetch;
        window.fetch = async (path, options) => {
          const answer = await real(path, options);
          if (path !== "/api/jobs") return answer;
          const { jobs } = await answer.json();
          return Response.json({ jobs: jobs.map((job) => ({ ...job, state: "running" })) });
        };"""
    )
    user.wait(lambda: user.entries[2][0] == "there", "the other's correction")
    assert user.text == "here"
    user.keys(Keys.ENTER)
    user.see("Which text is right?")
    assert other.lines[2] == ("there", "checked")
    user.click("Use mine")
    user.wait(lambda: other.lines[2] == ("here", "checked"), "the own text")
    user.saved()

    # A reading is no conflict.
    user.choose(1)
    user.type("typed")
    page = other.page
    other.ask("POST", f"pages/{page['id']}", {"read": [page["lines"][1]["id"]]}, page["revision"])
    user.wait(lambda: "read" in user.entries[1][1].split(), "the reading")
    user.keys(Keys.ENTER)
    user.saved()
    assert other.lines[1] == ("typed", "checked")

    # The own corrections of a line are no conflict, however fast they follow.
    user.choose(3)
    for text in ("a", "ab", "abc"):
        user.type(text)
        user.keys(Keys.ENTER)
    user.saved()
    assert other.lines[3] == ("abc", "checked")
    assert not user.find("dialog")


def move_and_correct(user: User, other: Other) -> None:
    """Move the first line down, then correct the last one."""
    from selenium.webdriver.common.keys import Keys

    user.choose(0)
    user.click("↓")
    user.wait(lambda: other.lines[1][0] == "one two", "the line to be moved")
    user.choose(3)
    user.type("mine")
    user.keys(Keys.ENTER)
    user.saved()


def test_undo_takes_back_no_correction_of_another_window(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    # Own corrections in between do not matter.
    move_and_correct(user, other)
    for line, wanted in ((3, "seven eight"), (1, "three four")):
        user.click("Undo")
        user.wait(lambda line=line, wanted=wanted: other.lines[line][0] == wanted, wanted)
    user.saved()

    user.choose(0)
    user.click("↓")
    user.wait(lambda: other.lines[1][0] == "one two", "the line to be moved")
    user.saved()
    other.correct(2, "there")
    # Also if the window has seen them since.
    user.choose(3)
    user.type("mine")
    user.keys(Keys.ENTER)
    user.saved()
    user.click("Undo")
    user.wait(lambda: other.lines[3][0] == "seven eight", "the own correction to be undone")
    user.saved()
    user.click("Undo")
    user.see("The page was changed elsewhere since")
    assert other.lines[2] == ("there", "checked")


def test_an_answer_that_is_cut_off_is_none(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    # Alternatives of a line that the user leaves before all of the answer is there.
    user.browser.execute_script(
        """const real = window.fetch;
        window.asked = 0;
        window.fetch = async (path, options) => {
          if (!path.endsWith("/alternatives")) return real(path, options);
          asked += 1;
          const leave = (body) => options.signal.addEventListener("abort", () => body.error(options.signal.reason));
          return new Response(new ReadableStream({ start: leave }));
        };"""
    )
    for number in (1, 2, 1):
        asked = user.browser.execute_script("return asked")
        user.choose(number)
        user.wait(lambda asked=asked: user.browser.execute_script("return asked") > asked, "a request")
    user.type("typed")
    user.keys(Keys.ENTER)
    user.wait(lambda: other.lines[1] == ("typed", "checked"), "the correction")
    user.saved()
    assert not user.console()

    # The answer to a correction: it is sent again.
    user.browser.execute_script(
        """const before = window.fetch;
        window.fetch = async (path, options) => {
          const answer = await before(path, options);
          if (options?.method !== "PATCH") return answer;
          window.fetch = before;
          return new Response(new ReadableStream({ start: (body) => body.error(new TypeError("network error")) }));
        };"""
    )
    user.choose(2)
    user.type("typed, too")
    user.keys(Keys.ENTER)
    user.see("The server does not answer")
    user.saved()
    assert other.lines[2] == ("typed, too", "checked")
    assert not user.find("dialog")
    assert all("409 (Conflict)" in error for error in user.console())  # the line was changed: by this window


def test_corrections_are_saved_although_the_page_cannot_be_shown(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    user.browser.execute_script(
        """window.real = Element.prototype.replaceChildren;
        Element.prototype.replaceChildren = () => { throw new Error("a fault of the page") };"""
    )
    user.type("typed 0")
    user.keys(Keys.ENTER)
    user.see("a fault of the page")
    user.browser.execute_script("Element.prototype.replaceChildren = real")
    assert user.console()
    user.choose(3)
    user.type("typed 3")
    user.keys(Keys.ENTER)
    user.wait(lambda: other.lines[3] == ("typed 3", "checked"), "the later correction")
    assert other.lines[0] == ("typed 0", "checked")


def test_no_key_that_is_meant_for_the_text_decides_which_text_is_right(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    # The question comes while the user types the next line.
    for number, key in enumerate((Keys.SPACE, Keys.ENTER, Keys.ESCAPE)):
        user.choose(number)
        user.type("here")
        other.correct(number, "there")
        user.keys(Keys.ENTER)
        user.see("Which text is right?")
        user.browser.switch_to.active_element.send_keys(key)
        if key == Keys.ESCAPE:  # decides nothing
            user.see("1 not saved")
            assert user.entries[number][0] == "here"
            user.click("Retry")
        user.click("Use mine")
        user.wait(lambda number=number: other.lines[number] == ("here", "checked"), "the own text")
        user.saved()


def test_undo_overwrites_no_later_correction_of_the_line(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    def correct(line: int, text: str) -> None:
        user.choose(line)
        user.type(text)
        user.keys(Keys.ENTER)
        user.saved()

    def undo(wanted: str) -> None:
        user.click("Undo")
        user.wait(lambda: other.lines[0][0] == wanted, wanted)
        user.saved()

    # Own changes of the line in between do not matter.
    for text in ("one", "two"):
        correct(0, text)
    user.choose(0)
    user.click("Reread")
    user.see("Checked lines stay as they are")
    undo("one")
    correct(0, "three")
    undo("one")
    other.correct(0, "there")
    correct(3, "mine")
    assert user.entries[0][0] == "there"  # the window has seen it
    user.click("Undo")
    user.wait(lambda: other.lines[3][0] == "seven eight", "the own correction of another line to be undone")
    user.saved()
    user.click("Undo")
    user.see("has been changed in another window")
    assert other.lines[0] == ("there", "checked")


@pytest.mark.parametrize("between", ["\n", "\t"])
def test_a_line_with_a_break_stays_until_it_is_corrected(user: User, other: Other, between: str) -> None:
    from selenium.webdriver.common.keys import Keys

    path = user.server.folder / "page.xml"
    path.write_text(path.read_text(encoding="utf-8").replace("one two", f"one{between}two"), encoding="utf-8")
    user.browser.refresh()
    user.wait(lambda: user.entries, "the lines")
    for number in (0, 1, 0, 3):
        user.choose(number)
    user.type("mine")
    user.keys(Keys.ENTER)
    user.saved()
    assert other.lines[0] == (f"one{between}two", "given")
    user.choose(0)
    assert user.text == "one two"
    user.keys(Keys.ENTER)
    user.saved()
    assert other.lines[0] == ("one two", "checked")
    user.click("Undo")
    user.wait(lambda: other.lines[0] == (f"one{between}two", "given"), "the text of the file")


def test_a_pasted_tab_is_a_space(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    user.choose(0)
    user.type("")
    user.browser.execute_script("document.execCommand('insertText', false, 'name\tplace')")
    user.keys(Keys.ENTER)
    user.saved()
    assert other.lines[0] == ("name place", "checked")


def test_no_message_pushes_out_an_error(user: User, other: Other) -> None:
    code = """const [done] = arguments;
      import("/static/dom.js").then(({ toast }) => {
        for (const number of [1, 2, 2, 3, 4, 5, 6]) toast(`error ${number}`, "error");
        for (const number of [1, 2, 3, 4, 5]) toast(`note ${number}`);
        done([...document.querySelectorAll(".toast.error span")].map((one) => one.textContent));
      });"""
    assert user.browser.execute_async_script(code) == [f"error {number}" for number in range(1, 7)]


# The first answer to a request that matches comes when `go` is called. What is shown since is in `shown`.
LATE = """const real = window.fetch;
    const [pattern, selector] = arguments;
    window.shown = [];
    window.fetch = async (path, options) => {
      const answer = await real(path, options);
      if (window.go || options.method !== "GET" || !RegExp(pattern).test(path)) return answer;
      await new Promise((go) => (window.go = go));
      const look = () => shown.push(document.querySelector(selector)?.textContent);
      new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
      return answer;
    };"""


def shown_since(user: User) -> set[str]:
    """Let the late answer come, and say what is shown until the window has asked for the jobs twice more."""
    code = "return performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/api/jobs')).length"
    before = user.browser.execute_script(f"go(); {code}")
    user.wait(lambda: user.browser.execute_script(code) > before + 1, "the jobs to be asked for")
    return set(user.browser.execute_script("return shown"))


def test_an_outdated_page_is_not_shown(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    # While a page is read, the window asks for it. An answer comes after that to a later correction.
    user.browser.execute_script(LATE, "/api/pages/[^/]+$", ".entry")
    user.click("Read")
    user.wait(lambda: user.browser.execute_script("return Boolean(window.go)"), "the page to be asked for")
    user.choose(0)
    user.type("typed")
    user.keys(Keys.ENTER)
    user.saved()
    assert other.lines[0] == ("typed", "checked")
    assert shown_since(user) <= {"typed"}
    assert user.entries[0][0] == "typed"


def test_the_list_of_pages_counts_the_last_corrections(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    # The corrections take a while, and the page is left at once.
    user.browser.execute_script(
        """const real = window.fetch;
        window.fetch = async (path, options) => {
          if (options.method === "PATCH") await new Promise((go) => setTimeout(go, 300));
          return real(path, options);
        };"""
    )
    for view, wanted in (("#/training", "Train on my 2 corrected lines"), ("#/", "4 lines, 4 checked")):
        user.keys(Keys.ENTER, Keys.ENTER)
        user.browser.execute_script("location.hash = arguments[0]", view)
        user.see(wanted, 20)
        user.browser.execute_script("history.back()")
        user.wait(lambda: user.entries, "the page")


def test_pages_that_no_longer_match_are_not_shown(user: User, other: Other) -> None:
    user.browser.execute_script(LATE, "/api/pages$", ".grid")
    user.click("← Pages")
    user.wait(lambda: user.browser.execute_script("return Boolean(window.go)"), "the pages to be asked for")
    user.find("[type=search]")[0].send_keys("nowhere")
    user.see("No page has this")
    assert shown_since(user) <= {"No page has this in its text or name."}


def test_the_view_is_that_of_the_address(user: User, other: Other, drawn: Path) -> None:
    serve_pages.write(user.server.folder / "second.png", serve_pages.lines_of(drawn)[:1], ["only this"])
    user.click("← Pages")
    user.see("2 pages")
    # The answer for the first page comes after that for the second.
    user.browser.execute_script(LATE, "/api/pages/[^/]+$", "#bar h1")
    user.open("page.png")
    user.wait(lambda: user.browser.execute_script("return Boolean(window.go)"), "the page to be asked for")
    user.open("second.png")
    user.see("only this")
    assert shown_since(user) <= {"second.png"}
    assert [text for text, _, _ in user.entries] == ["only this"]


def test_a_view_that_can_not_be_shown_says_so(user: User, other: Other) -> None:
    user.click("← Pages")
    user.see("1 page")
    user.server.kill()
    user.open("page.png")
    user.wait(lambda: "The server does not answer" in user.find("body")[0].text, "the reason", 5)
    user.server.start()
    user.click("Try again")
    user.wait(lambda: user.entries, "the page")
    user.server.kill()
    user.click("Versions")
    user.see("The server does not answer")
    for link, wanted in (("← Pages", "1 page"), ("Train", "0 corrected lines")):
        user.click(link)
        user.see("The server does not answer")
        user.server.start()
        user.see(wanted)
        user.server.kill()
    user.server.start()


def test_keys_of_the_browser_stay_its_own(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    press = """const event = new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...arguments[1] });
        return document.querySelector(arguments[0]).dispatchEvent(event);"""
    assert not user.browser.execute_script(press, ".photo", {"key": "+"})
    for key in ("+", "-", "0"):
        assert user.browser.execute_script(press, ".photo", {"key": key, "ctrlKey": True}), key
    assert user.browser.execute_script(press, ".photo", {"key": "ArrowLeft", "altKey": True})
    # Which alternatives the small network has depends on the processor.
    user.browser.execute_script(
        """const real = window.fetch, found = { words: ["three", "four"], alternatives: [["tree"], ["for"]] };
        window.fetch = async (path, options) =>
          path.endsWith("/alternatives") ? Response.json(found) : real(path, options);"""
    )
    user.choose(1)
    # On a French keyboard, Alt 1 without Shift is Alt &.
    word = user.wait(lambda: [chip.text for chip in user.find(".under .chip")], "alternatives")[0]
    user.browser.execute_script(press, "#text", {"key": "&", "code": "Digit1", "altKey": True})
    assert word in user.text
    user.type("typed")
    user.keys(Keys.ENTER)
    user.saved()
    assert user.browser.execute_script(press, ".photo", {"key": "Z", "ctrlKey": True, "shiftKey": True})
    user.saved()
    assert other.lines[1] == ("typed", "checked")


def test_alternatives_are_those_of_the_model_that_reads_now(user: User, other: Other) -> None:
    user.browser.execute_script(
        """const real = window.fetch;
        const job = { id: 1, kind: "train", state: "running", progress: { model: { accepted: true } } };
        Object.assign(window, { model: "first", jobs: [job], asked: 0 });
        window.fetch = async (path, options) => path === "/api/jobs" ? Response.json({ jobs, asked: (asked += 1) })
          : path.endsWith("/alternatives") ? Response.json({ words: ["three", "four"], alternatives: [[model], []] })
          : real(path, options);
        window.train = () => {
          model = "second";
          jobs = [{ ...job, state: "done" }];
        };"""
    )

    def alternatives() -> list[str]:
        return [chip.text for chip in user.find(".under .chip")]

    user.choose(1)
    user.wait(lambda: alternatives() == ["first"], "the first model's")
    user.wait(lambda: user.browser.execute_script("return asked > 1"), "the training to be seen")
    user.browser.execute_script("train()")
    user.wait(lambda: alternatives() == ["second"], "the second model's", 20)
    # Those of a line that was left, too.
    user.browser.execute_script("model = 'third'")
    user.choose(0)
    user.choose(1)
    user.wait(lambda: alternatives() == ["third"], "the third model's", 20)


def test_an_upload_is_shown_until_it_ends(user: User, other: Other, tmp_path: Path) -> None:
    user.click("← Pages")
    user.see("1 page")
    user.browser.execute_script(
        """const real = window.fetch;
        window.turns = 0;
        window.fetch = async (path, options) => {
          if (options.method === "POST") await new Promise((go) => (window.go = go));
          const answer = await real(path, options);
          if (path === "/api/jobs") turns += 1;
          return answer;
        };"""
    )
    (tmp_path / "broken.png").write_bytes(b"nothing")
    user.drop(tmp_path / "broken.png")
    user.see("Uploading 1 file")
    user.wait(lambda: user.browser.execute_script("return turns") > 1, "the jobs to be asked for twice")
    user.see("Uploading 1 file", 1)
    user.browser.execute_script("go()")
    user.see("broken.png: ")
    assert "Uploading" not in user.find("body")[0].text


def test_many_files_are_uploaded_in_several_requests(user: User, other: Other, tmp_path: Path) -> None:
    user.click("← Pages")
    user.see("1 page")
    user.browser.execute_script(
        """const real = window.fetch;
        window.posts = [];
        window.fetch = (path, options) => {
          if (options.method === "POST") posts.push(options.body.getAll("file").map((file) => file.name));
          return real(path, options);
        };"""
    )
    names = ["page.xml", "broken.png", *(f"{n}.png" for n in range(58))]  # page.xml is of the page that is there
    for name in names:
        Image.new("L", (40, 20), 255).save(tmp_path / name, "PNG")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "page.xml").write_text("<PcGts/>")
    user.drop(*(tmp_path / name for name in names))
    user.see("Added 58 files")
    user.see("59 pages")
    posts = user.browser.execute_script("return posts")
    assert [len(post) for post in posts] == [50, 10]
    assert posts[1][-1] == "page.xml"
    user.see("broken.png: ")
    user.see("page.xml:1: ")


def test_a_file_that_is_too_large_is_named_and_the_others_are_uploaded(user: User, tmp_path: Path) -> None:
    user.server.kill()
    user.server.more = ("--max-upload", "1")
    user.server.start()
    user.browser.get(user.address)
    user.see("Drop page images here")
    # Each is sent in a request of its own.
    user.browser.execute_script("Object.defineProperty(File.prototype, 'size', { get: () => 60e6 })")
    for name in ("a.png", "large.png", "z.png"):
        Image.new("L", (40, 20), 255).save(tmp_path / name)
    with open(tmp_path / "large.png", "ab") as file:
        file.truncate(2_000_000)
    user.drop(*(tmp_path / name for name in ("a.png", "large.png", "z.png")))
    user.see("Added 2 files")
    user.see("large.png: a request may have 1,000,000 bytes")
    assert {path.name for path in user.server.folder.glob("*.png")} == {"a.png", "z.png"}


def test_a_folder_that_is_dropped_is_refused_by_its_name(user: User, other: Other, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "second.png").write_bytes((user.server.folder / "page.png").read_bytes())
    user.click("← Pages")
    user.see("1 page")
    dropped = {"items": [], "files": [str(tmp_path / name) for name in ("more", "second.png")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 300, "y": 400, "data": dropped}
        user.browser.execute_cdp_cmd("Input.dispatchDragEvent", event)
    user.see("more is a folder")
    user.see("2 pages")
    assert len(user.find(".toast.error")) == 1


def test_pages_are_opened_by_a_click_while_others_are_read(user: User, other: Other) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    user.click("← Pages")
    user.see("1 page")
    # While pages are read, the list is asked for again and again. An answer comes in the middle of a click.
    user.browser.execute_script(
        """const real = window.fetch, job = { id: 1, kind: "read", state: "running", progress: {} };
        window.fetch = async (path, options) => {
          if (path === "/api/jobs") return Response.json({ jobs: [job] });
          const answer = await real(path, options);
          if (path === "/api/pages") await new Promise((go) => (window.go = go));
          return answer;
        };"""
    )
    user.wait(lambda: user.browser.execute_script("return Boolean(window.go)"), "the list to be asked for")
    mouse = ActionChains(user.browser, duration=0)
    mouse.click_and_hold(user.find("a.name")[0]).perform()
    user.browser.execute_script("go()")
    mouse.reset_actions()
    mouse.release().perform()
    user.wait(lambda: user.entries, "the page", 10)


def test_pages_that_are_gone_are_not_chosen(user: User, other: Other, drawn: Path) -> None:
    serve_pages.write(user.server.folder / "second.png", serve_pages.lines_of(drawn)[:1], ["only this"])
    user.click("← Pages")
    user.see("2 pages")
    user.browser.execute_script("for (const i of [0, 1]) document.querySelectorAll('.card input')[i].click()")
    user.see("Export 2")
    (user.server.folder / "second.png").unlink()
    other.ask("POST", "jobs", {"kind": "read"})
    user.see("Export 1")


def test_what_is_typed_on_a_line_that_is_deleted_elsewhere_is_not_lost(user: User, other: Other) -> None:
    user.choose(2)
    user.type("typed here")
    page = other.page
    other.ask("POST", f"pages/{page['id']}", {"delete": [page["lines"][2]["id"]]}, page["revision"])
    code = "[...document.querySelectorAll('#bar button')].find((b) => b.textContent === 'Read').click()"
    user.browser.execute_script(code)
    user.wait(lambda: len(user.entries) == 3, "the line to be gone")
    user.see("typed here", 5)


def test_a_job_that_an_outdated_answer_lacks_is_not_forgotten(user: User, other: Other) -> None:
    user.click("← Pages")
    user.see("1 page")
    # The jobs before a reading began are told after those while it runs.
    user.browser.execute_script(
        """const job = { id: 1, kind: "read", state: "running", progress: {} };
        const answers = [[], [job], [{ ...job, state: "done" }]];
        const real = window.fetch;
        window.asked = 0;
        window.fetch = async (path, options) => {
          if (path !== "/api/jobs") return real(path, options);
          if (options.method === "POST") return Response.json(job);
          const jobs = answers[Math.min(asked, 2)];
          asked += 1;
          if (asked === 1) await new Promise((go) => (window.go = go));
          else if (asked === 2) go();
          return Response.json({ jobs });
        };"""
    )
    user.wait(lambda: user.browser.execute_script("return asked"), "the jobs to be asked for")
    user.click("Read all")
    user.see("Reading is done")


def test_a_job_that_ends_before_the_window_sees_it_is_reported(user: User, other: Other) -> None:
    user.click("← Pages")
    user.see("1 page")
    user.wait(
        lambda: user.browser.execute_script("return performance.getEntriesByName(`${origin}/api/jobs`).length"),
        "the first answer",
    )
    other.read()  # nothing: all texts are of the file
    user.see("Reading is done", 20)


def test_a_line_without_an_outline_does_not_move_the_photo(user: User, other: Other) -> None:
    path = user.server.folder / "page.xml"
    text = path.read_text(encoding="utf-8")
    bare = re.sub(r"(<TextLine id=.l2.*?>\s*)<Coords [^>]*/>\s*<Baseline [^>]*/>", r"\1", text)
    assert bare != text
    path.write_text(bare, encoding="utf-8")
    user.browser.refresh()
    user.wait(lambda: user.entries, "the lines")
    user.choose(0)
    place = "return document.querySelector('.sheet').style.transform"
    before = user.wait(lambda: user.browser.execute_script(place), "the photo")
    user.choose(1)
    assert user.line == 1
    assert user.browser.execute_script(place) == before


def test_a_link_with_a_new_token_works_in_an_open_window(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    user.server.kill()
    user.server.more = ("--token", "0123456789abcdef")
    user.server.start()
    user.type("typed")
    user.keys(Keys.ENTER)
    user.see("show the token")
    link = "location.hash = '#token=0123456789abcdef'"
    user.browser.execute_script(link)
    user.see("1 page")
    user.open("page.png")
    user.wait(lambda: user.find(".saved"), "the page")
    user.saved()
    assert "typed" in (user.server.folder / "page.xml").read_text(encoding="utf-8")
    # Also while the window asks for the token.
    user.browser.delete_all_cookies()
    user.browser.refresh()
    user.see("The token that the server printed")
    user.browser.execute_script(link)
    user.see("1 page")
    user.console()


UNSAVED = [("typed 0", True), ("typed 1", True), ("typed 2", True)]


def unsaved(user: User) -> list[tuple[str, bool]]:
    """The text of each line that is marked, and whether it is marked as not saved, not as checked."""
    return [
        (text, "unsaved" in classes.split())
        for text, classes, _ in user.entries
        if set(classes.split()) & {"checked", "unsaved"}
    ]


def test_corrections_are_kept_until_the_server_is_back(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    # All that the window says about what is saved.
    user.browser.execute_script(
        """const saved = document.querySelector(".saved");
        window.said = [];
        new MutationObserver(() => said.push(saved.textContent)).observe(saved, { childList: true });"""
    )
    user.server.kill()
    user.choose(0)
    for number in range(3):
        user.type(f"typed {number}")
        user.keys(Keys.ENTER)
    user.see("3 not saved")
    assert unsaved(user) == UNSAVED
    user.choose(0)
    user.click("Merge")  # needs the texts
    user.see("Not done, because some corrections are not saved")
    leaving = "return !dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    assert user.browser.execute_script(leaving)
    assert "Saved" not in user.browser.execute_script("return said")

    user.server.start()
    user.click("Retry")
    user.saved()
    assert other.lines == [*((text, "checked") for text, _ in UNSAVED), (TEXTS[3], "given")]
    assert [text for text in user.browser.execute_script("return said") if text == "Saved"] == ["Saved"]
    assert "unsaved" not in "".join(classes for _, classes, _ in user.entries)
    assert not user.browser.execute_script(leaving)

    # Without a click, too; and what another window wrote meanwhile is asked about.
    user.server.kill()
    user.choose(1)
    user.type("here")
    user.keys(Keys.ENTER)
    user.see("1 not saved")
    user.server.start()
    other.correct(1, "there")
    user.see("Which text is right?")
    user.click("Keep the other")
    user.saved()
    assert user.entries[1][0] == "there"
    assert other.lines[1] == ("there", "checked")


def test_undo_works_once_the_server_is_back(user: User, other: Other) -> None:
    move_and_correct(user, other)
    for line, before, wanted in ((3, "mine", "seven eight"), (1, "one two", "three four")):
        user.server.kill()
        user.click("Undo")
        user.see("The server does not answer")
        user.server.start()
        assert other.lines[line][0] == before
        user.click("Undo")
        user.wait(lambda line=line, wanted=wanted: other.lines[line][0] == wanted, wanted)
        user.saved()


def test_corrections_that_a_full_disk_refuses_are_kept(user: User, other: Other) -> None:
    from selenium.webdriver.common.keys import Keys

    user.browser.execute_script(
        """const real = window.fetch;
        window.full = true;
        window.fetch = (path, options) => full && options?.method === "PATCH"
          ? Promise.resolve(Response.json({ error: "the disk is full" }, { status: 507 })) : real(path, options);"""
    )
    user.choose(0)
    user.type("typed 0")
    user.keys(Keys.ENTER)
    user.type("typed 1")
    user.keys(Keys.ARROW_DOWN)  # not accepted
    user.type("typed 2")
    user.keys(Keys.ENTER)
    user.see("3 not saved")
    user.see("the disk is full")
    assert unsaved(user) == UNSAVED
    # Another view loses none.
    user.click("← Pages")
    user.see("Not everything of page.png is saved")
    user.open("page.png")
    user.see("3 not saved")
    assert unsaved(user) == UNSAVED
    assert other.lines == [(text, "given") for text in TEXTS]
    # The next correction takes the others along.
    user.browser.execute_script("window.full = false")
    user.choose(3)
    user.type("typed 3")
    user.keys(Keys.ENTER)
    user.saved()
    assert other.lines == [(f"typed {i}", "given" if i == 1 else "checked") for i in range(4)]
    # A correction that is corrected again is sent once, and undone to what was saved.
    user.browser.execute_script("window.full = true")
    user.choose(0)
    for text in ("a", "b"):
        user.choose(0)
        user.type(text)
        user.keys(Keys.ENTER)
        user.see("1 not saved")
    user.browser.execute_script("window.full = false")
    user.click("Retry")
    user.saved()
    assert other.lines[0] == ("b", "checked")
    user.click("Undo")
    user.wait(lambda: other.lines[0] == ("typed 0", "checked"), "the saved text")
    user.saved()


def test_an_export_names_broken_pages(user: User, other: Other) -> None:
    (user.server.folder / "no ä,%.png").write_bytes(b"nothing")
    user.click("← Pages")
    user.click("Export")
    user.wait(lambda: user.find("dialog button.primary"), "the dialog")[0].click()
    user.see("1 broken page not exported: no ä,%.png")


def screenshot(user: User, name: str) -> None:
    """Keep a picture for the documentation, if it is asked for."""
    if SCREENSHOTS:
        time.sleep(5)  # until messages are gone
        user.browser.save_screenshot(str(Path(SCREENSHOTS) / f"workbench-{name}.png"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_examples_of_the_documentation(server: Server, drawn: Path, tmp_path: Path) -> None:
    from PIL import Image

    lines = serve_pages.lines_of(drawn)
    serve_pages.write(tmp_path / "page.jpg", lines[:2])
    shutil.copy(lines[0].image, tmp_path / "line.png")
    with Image.open(tmp_path / "page.jpg") as image:
        image.save(tmp_path / "book.pdf", resolution=300)
    text = (REPOSITORY / "docs/workbench.md").read_text(encoding="utf-8")
    commands = [row for row in text.splitlines() if row.startswith("curl ")]
    assert len(commands) == 8
    said = []
    for command in commands:
        address = f"127.0.0.1:{server.port}"
        if command.endswith("> book.json"):
            while b'"running"' in (said[-1]) or b'"waiting"' in said[-1]:
                said[-1] = subprocess.check_output(["curl", "-s", f"{address}/api/jobs/1"])
        command = command.replace("localhost:8000", address).replace("curl ", "curl -sS --fail-with-body ")
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        said.append(done.stdout)
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert b"<alto" in (tmp_path / "read.xml").read_bytes()
    assert json.loads((tmp_path / "book.json").read_text(encoding="utf-8"))["pages"][0]["lines"]
    assert len(json.loads(said[4])["pages"][0]["lines"]) == 1


# A process that writes corrections into a page until it is killed; it prints each one that is saved.
WRITER = """
import os, signal, sys, time
from pathlib import Path
from hwr.serve.project import edits
from hwr.serve.project.folder import Project

folder = Path(sys.argv[1])
(page,) = Project(folder).pages()
known = 0
for number, delay in enumerate(map(float, sys.argv[2:])):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        project, count = Project(folder), known
        while True:
            count += 1
            line = project.page(page.id).line("l1")
            edits.set_text(project, page.id, "l1", str(count), True, line.revision)
            os.write(write, f"{count}\\n".encode())
    os.close(write)
    # Every second one is killed at work, however slow the machine is, the others perhaps before.
    saved = os.read(read, 65536) if number % 2 else b""
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(read, 65536):
        saved += part
    os.close(read)
    last = int(saved.split()[-1]) if saved else known
    found = Project(folder).page(page.id)
    assert not found.error, found.error
    known = int(found.line("l1").text)
    # What was saved is there; beyond it, at most the one correction that was under way.
    assert known in (last, last + 1), (known, last)
print("ok", known)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_hundred_kills_lose_nothing_that_was_saved(drawn: Path, tmp_path: Path) -> None:
    import numpy as np

    folder = tmp_path / "letters"
    folder.mkdir()
    serve_pages.write(folder / "a.png", serve_pages.lines_of(drawn)[:1], ["0"])
    delays = np.random.default_rng(0).uniform(0.01, 0.08, 100)
    command = [sys.executable, "-c", WRITER, str(folder), *map(str, delays)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) >= 50  # corrections
