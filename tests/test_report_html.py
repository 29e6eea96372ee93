"""The report's page in a real browser, without a network."""

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hwr.data import Line
from hwr.evaluation import metrics, page_views, report_html
from hwr.evaluation.evaluate import Predictions
from hwr.evaluation.page_metrics import ScoredLine, match
from hwr.evaluation.pages import EvaluatedPage
from hwr.images import load

TRUTHS = ["a good line", "with </script><b>tags</b>", "", "l'été d'hier", "the last one here"]
READ = ["a gold line", "with </script><b>tags</b>", "x", "l'ete d'hier", "thelast one her"]


def written(folder: Path, times: int = 1) -> Path:
    """A page on `times` copies of five lines."""
    lines, texts = [], []
    for i in range(times):
        for j, (truth, read) in enumerate(zip(TRUTHS, READ, strict=True)):
            path = folder / f"{j}.png"
            Image.fromarray(np.full((40, 300 + 10 * j), 255 - 20 * j, np.uint8)).save(path)
            lines.append(Line(f"{i:04}-{j}", path, truth, f"w{j % 2}", "x:1"))
            texts.append(read)
    number = len(lines)
    confidences = np.linspace(0.99, 0.2, number)
    reading = Predictions(texts, confidences, np.ones(number), np.ones(number, bool), 1.0)
    result: dict[str, Any] = {
        **{"split": "test", "split_name": "five lines", "checkpoint": "best.safetensors", "data": "d", "hwr": "0"},
        **{"engine": "torch", "device": "cpu", "precision": "fp32", "decoder": {"name": "greedy"}},
        **{"lines_per_second": 9.0, "notes": ["a note"], "lines": number, "characters": 66, "edits": 6},
        **{"cer": 0.1, "cer_ci95": [0.05, float("nan")], "cer_ci95_over": "writers", "wer": 0.3, "wer_punct": 0.4},
        **{"confidence": 0.6, "calibration_error": 0.1},
    }
    with open(folder / "history.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["epoch", "val_cer", "val_wer"], [1, 0.9, 1.0], [2, 0.5, 0.8], [3, 0.1, 0.3]])
    report_html.write(folder / "report.html", result, reading, lines, folder / "history.csv")
    return folder / "report.html"


def rows(browser: Any) -> list[str]:
    return [row.get_attribute("data-id") for row in browser.find_elements("css selector", ".row")]


def choose(browser: Any, name: str, value: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", name)).select_by_value(value)


def quiet(browser: Any) -> bool:
    """Whether the browser's console has no errors, and nothing was requested from the network."""
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    return not browser.get_log("browser") and all(name.startswith("data:") for name in asked)


def test_the_page_in_a_browser(browser: Any, tmp_path: Path) -> None:
    browser.get(written(tmp_path).as_uri())
    assert "CER 10.00 % on test of five lines" in browser.title
    assert rows(browser) == ["0000-3", "0000-4", "0000-0", "0000-2", "0000-1"]  # most edits first

    def order(name: str) -> list[str]:
        choose(browser, "order", name)
        return rows(browser)

    assert order("place") == [f"0000-{j}" for j in range(5)]
    assert order("confidence") == [f"0000-{j}" for j in range(4, -1, -1)]
    assert order("sure")[0] == "0000-0"
    assert order("length")[:2] == ["0000-1", "0000-4"]
    order("place")
    choose(browser, "writer", "w1")
    assert rows(browser) == ["0000-1", "0000-3"]
    assert browser.find_element("id", "count").text == "2 of 5 lines"
    choose(browser, "writer", "")
    browser.find_element("id", "search").send_keys("GOLD")
    assert rows(browser) == ["0000-0"]
    row = browser.find_element("css selector", ".row")
    assert [(e.get_attribute("class"), e.text) for e in row.find_elements("css selector", ".text span")] == [
        ("s", "o"),
        ("s", "l"),
    ]
    browser.find_element("id", "search").clear()
    browser.find_element("id", "search").send_keys("tags")
    assert "with </script><b>tags</b>" in browser.find_element("css selector", ".row").text  # text, not HTML
    browser.find_element("id", "search").send_keys("\b" * 4)
    browser.find_element("id", "wrong").click()
    assert "0000-1" not in rows(browser)
    tables = browser.find_element("id", "confusions").text
    assert "é e 2" in tables
    assert "space 1" in tables
    assert len(browser.find_elements("css selector", "svg")) == 3
    pictures = browser.find_elements("css selector", ".row img")
    assert all(browser.execute_script("return arguments[0].naturalWidth", picture) for picture in pictures)
    assert quiet(browser)
    browser.save_screenshot(str(tmp_path / "screen.png"))
    assert load.read(tmp_path / "screen.png").std() > 5


def test_the_page_without_colours_a_mouse_or_eyes(browser: Any, tmp_path: Path) -> None:
    browser.get(written(tmp_path).as_uri())
    code = "return [...document.querySelectorAll(arguments[0])].map((e) => getComputedStyle(e)[arguments[1]])"
    kinds = [browser.execute_script(code, f"p .{kind}", "textDecorationLine")[0] for kind in "sid"]
    styles = [browser.execute_script(code, f"p .{kind}", "textDecorationStyle")[0] for kind in "sid"]
    assert len(set(zip(kinds, styles, strict=True))) == 3  # each error looks different in grey
    quiet = browser.execute_script(code, ".quiet", "color")[0]
    assert quiet == "rgb(102, 102, 102)"  # 5.7 to 1 on white
    scrolled = browser.find_elements("css selector", ".scroll")
    assert scrolled
    assert all(box.get_attribute("tabindex") == "0" and box.accessible_name for box in scrolled)
    assert not browser.find_elements("css selector", "label:not(:has(input, select))")
    pictures = browser.find_elements("css selector", ".row img")
    assert pictures[0].accessible_name == "image of 0000-3"
    assert "lines, CER" in browser.find_element("css selector", "svg").accessible_name
    assert browser.find_element("id", "count").aria_role == "status"


@pytest.mark.once
def test_thousands_of_lines_stay_usable(browser: Any, tmp_path: Path) -> None:
    browser.get(written(tmp_path, 1000).as_uri())
    assert browser.find_element("id", "count").text == "5000 of 5000 lines"
    before = len(rows(browser))
    assert before <= 150  # not all at once
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    for _ in range(50):
        if len(rows(browser)) > before:
            break
        browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert len(rows(browser)) > before
    browser.find_element("id", "search").send_keys("0777-")
    assert len(rows(browser)) == 5
    assert quiet(browser)


def test_special_values_in_the_html_report(tmp_path: Path) -> None:
    page = written(tmp_path).read_text()
    assert "__DATA__" not in page
    assert "NaN" not in page.partition('id="data">')[2].partition("</script>")[0]
    assert page.count("</script>") == 2


def test_file_names_that_are_not_unicode_and_foreign_histories(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.png")
    Image.new("L", (300, 40)).save(path)
    (tmp_path / "history.csv").write_text("step,loss\n1,0.5\n")
    reading = Predictions(["x"], np.ones(1), np.ones(1), np.ones(1, bool), 1.0)
    report_html.write(
        tmp_path / "r.html",
        {"worst": [{"image": str(path)}]},
        reading,
        [Line("a", path, "x", "", "x:1")],
        tmp_path / "history.csv",
    )
    data = json.loads((tmp_path / "r.html").read_text().partition('id="data">')[2].partition("</script>")[0])
    assert data["report"]["worst"][0]["image"] == str(path)
    assert data["history"] == []


def test_the_chart_of_confidence_and_the_calibration_error_agree(tmp_path: Path) -> None:
    page = written(tmp_path, times=5).read_text(encoding="utf-8")
    data = json.loads(page.split('type="application/json" id="data">')[1].split("</script>")[0])
    bins = data["calibration"]
    assert [part["lines"] for part in bins] == [3] * 5 + [2] * 5
    apart = sum(abs(part["confidence"] - part["accuracy"]) * part["lines"] for part in bins) / 25
    accuracies = metrics.score(TRUTHS * 5, READ * 5).accuracies
    assert apart == pytest.approx(metrics.calibration_error(np.linspace(0.99, 0.2, 25), accuracies))


def test_pages_in_a_browser(browser: Any, tmp_path: Path) -> None:
    Image.fromarray(np.full((300, 200), 200, np.uint8)).save(tmp_path / "p.png")
    lines = [
        ScoredLine(((10, y), (150, y), (150, y + 20), (10, y + 20)), text) for y, text in ((10, "one"), (50, "two"))
    ]
    page = EvaluatedPage(tmp_path / "p.png", tuple(lines), tuple(lines), tuple(lines[:1]), ("p.png: a fault",))
    rates = {"cer": 0.5, "cer_ci95": [0.4, float("nan")], "bag_of_words": 0.5, "similarity": 0.25}
    rates |= {"cer_in_order": 0.375, "cer_in_order_ci95": [0.25, 0.5]}
    counts = {
        f"lines_{key}": value for key, value in match([x.region for x in lines], [lines[0].region])._asdict().items()
    }
    result: dict[str, Any] = {
        **{"split": "all", "split_name": "pages", "checkpoint": "best.safetensors", "data": "d", "hwr": "0"},
        **{"engine": "torch", "device": "cpu", "precision": "fp32", "decoder": {"name": "greedy"}, "notes": []},
        **{"pages": 1, "lines": 2, "characters": 7, "edits": 4, "seconds_finding": 0.25, "broken": list(page.errors)},
        **{"ground_truth_lines": {**rates, "cer": 0.125}, **rates, **counts},
    }
    page_views.write_html(tmp_path / "pages.html", SimpleNamespace(pages=[page], to_dict=lambda: result))  # type: ignore[arg-type]
    browser.get((tmp_path / "pages.html").as_uri())
    assert "Page CER 50.00 % on all of pages" in browser.title
    body = browser.find_element("tag name", "body").text
    for part in (
        "12.50 %",
        "37.50 %",
        "1 of 2",
        "0 split, 0 merged, 1 missed",
        "p.png: a fault",
        "1 of 1 pages",
        "4 edits in 7",
    ):
        assert part in body
    assert "Writers" not in body
    (picture,) = browser.find_elements("css selector", ".row img")
    assert browser.execute_script("return arguments[0].naturalWidth", picture) == 200
    assert quiet(browser)
