"""Page photos, PAGE and ALTO files -> predictions in reading order -> files."""

from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.images.load import Polygon
from hwr.pages.predict import predict as predict_jobs
from hwr.pages.segment import lines_of
from hwr.pages.sources import jobs
from hwr.recognizer import Reading, Recognizer


@dataclass(frozen=True)
class PageLine(Reading):
    """A line of a page, with its prediction.

    Attributes:
        id: Its id on the page.
        region: Its polygon, (x, y) in pixels of the page.
        baseline: Its baseline from left to right, (x, y); () if unknown.
        error: Why the line could not be read, else ""; on error the text is empty and the confidence 0.
    """

    id: str = ""
    region: Polygon = ()
    baseline: Polygon = ()
    error: str = ""


@dataclass(frozen=True)
class PageReading:
    """A page with its lines in reading order.

    Attributes:
        image: The page image.
    """

    image: Path
    lines: tuple[PageLine, ...]

    @property
    def text(self) -> str:
        """The texts of the lines, one per line."""
        return "\n".join(line.text for line in self.lines)


def read_page(recognizer: Recognizer, path: str | Path, characters: bool = False) -> PageReading:
    """Read a page.

    Args:
        path: A photo, whose lines kraken finds, or a PAGE or ALTO file that marks them.
        characters: Whether to locate each character.

    Raises:
        Error: The page can't be read, or kraken is not installed. A line that can't be read has an `error` instead.
    """
    found = predict_jobs(recognizer, jobs([str(path)], lines_of, recognizer.config.data.images), characters=characters)
    for job, predictions in found:
        if job.error:
            raise Error(job.error)
        lines = tuple(
            PageLine(p.text or "", p.confidence, p.characters, p.target.id, p.target.region, p.target.baseline, p.error)
            for p in predictions
        )
        return PageReading(job.image, lines)
    raise AssertionError(path)  # there is one job per file
