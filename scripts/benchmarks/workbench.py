"""How fast the workbench's pages are in a browser: opening the list and a page, typing, accepting a line."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks.common import conditions, json_option, write
from benchmarks.serve import start_server
from hwr import Error
from hwr.data.formats import page, xml
from hwr.data.formats.shapes import Marked

SIZE = (2480, 3508)  # A4 at 300 dpi

# Milliseconds until something is there and has been painted.
MEASURE = """
const [action, condition, done] = arguments;
const begin = performance.now();
new Function(action)();
const ready = new Function(`return ${condition}`);
const look = () => ready() ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begin)))
  : requestAnimationFrame(look);
look();
"""


@click.command("workbench")
@click.option("--pages", default=100, show_default=True, type=click.IntRange(min=2))
@click.option("--lines", default=30, show_default=True, type=click.IntRange(min=2), help="Lines per page.")
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(min=1))
@json_option
def measure_workbench(pages: int, lines: int, repeats: int, json_path: Path | None) -> None:
    """Times in headless Chromium with a project of many pages: medians and 95th percentiles, in ms."""
    from selenium import webdriver

    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if binary is None or driver is None:
        raise Error("no Chromium with its chromedriver (Debian: apt-get install chromium chromium-driver)")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "pages"
        project.mkdir()
        for number in range(pages):
            _page(project / f"{number:03}.jpg", lines, number)
        server, port = start_server(project, "hwr-latin", ["engine.device=cpu", "decode.name=greedy"])
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for argument in ("headless=new", "no-sandbox", "disable-gpu", f"user-data-dir={folder}/profile"):
            options.add_argument(f"--{argument}")
        options.add_argument("--window-size=1280,900")
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            browser.set_script_timeout(120)
            found = _measure(browser, f"http://127.0.0.1:{port}/", repeats)
        finally:
            browser.quit()
            server.terminate()
            server.wait()
    click.echo(f"{pages} pages, {pages * lines} lines\n{'':<28}{'median':>10}{'p95':>10}")
    for name, times in found.items():
        median, high = np.percentile(times, [50, 95])
        click.echo(f"{name:<28}{median:>10.0f}{high:>10.0f}")
    write(json_path, {"conditions": conditions(), "ms": found})


def _measure(browser: Any, address: str, repeats: int) -> dict[str, list[float]]:
    def time(action: str, condition: str) -> float:
        return float(browser.execute_async_script(MEASURE, action, condition))

    found: dict[str, list[float]] = {"open the list": [], "open a page": [], "keystroke": [], "accept a line": []}
    listed = "document.querySelectorAll('li.page').length > 1"
    # The text, the lines on the photo, and the photo itself.
    opened = (
        "document.querySelectorAll('.entry').length > 1 && document.querySelector('.sheet polygon') && "
        "document.querySelector('.sheet img')?.complete && document.querySelector('#text')?.value"
    )
    browser.get(address)
    for i in range(repeats):
        found["open the list"].append(time("location.hash = '#/'" if i else "", listed))
        links = "document.querySelectorAll('a.name')"
        found["open a page"].append(time(f"{links}[{i} % {links}.length].click()", opened))
        for _ in range(10):
            key = "document.querySelector('#text').focus(); document.execCommand('insertText', false, 'a')"
            found["keystroke"].append(time(key, "true"))
        enter = (
            "window.before = document.querySelector('[aria-current]').dataset.line; document.querySelector('#text')"
            ".dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }))"
        )
        moved = "document.querySelector('[aria-current]').dataset.line !== window.before"
        found["accept a line"].append(time(enter, moved))
    return found


def _page(path: Path, lines: int, seed: int) -> None:
    """A page with noise for lines, and their texts in a PAGE file."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    sheet = np.full((height, width), 240, np.uint8)
    step = height // (lines + 1)
    marked = []
    for number in range(lines):
        top = step // 2 + number * step
        bottom = top + step * 2 // 3
        sheet[top:bottom, 200 : width - 200] = rng.integers(0, 256, (bottom - top, width - 400), np.uint8)
        box = ((200, top), (width - 200, top), (width - 200, bottom), (200, bottom))
        marked.append(Marked(f"l{number}", " ".join("word" for _ in range(12)), box, (), ""))
    Image.fromarray(sheet).save(path, quality=80)
    root = page.new(path.name, SIZE, marked)
    for element, line in zip(xml.descendants(root, "TextLine"), marked, strict=True):
        page.set_text(element, line.text, 0.8)
    xml.write(root, path.with_suffix(".xml"))
