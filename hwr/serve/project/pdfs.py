"""PDF -> page images, in a process of its own, so that a hostile file ends that process and not the server."""

import subprocess
import sys
import tempfile
from pathlib import Path

from hwr import Error

DPI = 300
MOST_PAGES = 500
MOST_PIXELS = 25_000_000  # of a page; larger ones get fewer dpi
SECONDS = 20.0  # for each page, and at least a minute


def render(path: Path, folder: Path) -> list[Path]:
    """Render the pages of a PDF as JPEG files in an existing folder.

    Raises:
        Error: It is damaged, encrypted or too long, or pypdfium2 is not installed.
    """
    count = _count(path)
    if count > MOST_PAGES:
        raise Error(f"{path.name}: has {count} pages; the limit is {MOST_PAGES}. Split it")
    _run(path, [str(path), str(folder)], max(60.0, SECONDS * count))
    return sorted(folder.glob("*.jpg"))


def _count(path: Path) -> int:
    return int(_run(path, [str(path)], 60.0))


def _run(path: Path, arguments: list[str], seconds: float) -> str:
    command = [sys.executable, "-m", __name__, *arguments]
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise Error(f"{path.name}: takes longer than {seconds:.0f} seconds to render") from None
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()
    if done.returncode:
        reason = said.rpartition("\n")[2] or f"the process that renders it ended with status {done.returncode}"
        raise Error(f"{path.name}: can't be rendered: {reason}")
    return done.stdout.decode()


def _main(path: str, folder: str = "") -> None:
    """Print the number of pages, or render them into a folder."""
    try:
        import pypdfium2
    except ImportError:
        sys.exit("PDF files need pypdfium2: pip install -e '.[serve]'")
    try:
        document = pypdfium2.PdfDocument(path)
        print(len(document))
        for number, page in enumerate(document if folder else (), 1):
            width, height = page.get_size()  # in points, 1/72 inch
            most = (MOST_PIXELS / max(1.0, width * height)) ** 0.5
            picture = page.render(scale=min(DPI / 72, most)).to_pil().convert("RGB")
            picture.save(Path(folder) / f"{number:04}.jpg", quality=92, dpi=(DPI, DPI))
    except pypdfium2.PdfiumError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main(*sys.argv[1:])
