"""What a run over many files will read and write: decided and checked before anything is read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.config import Config
from hwr.pages import write
from hwr.pages.journal import Journals, fingerprint
from hwr.pages.outputs import FORMATS, Format, of_suffix
from hwr.pages.segment import network
from hwr.pages.sources import Found, files_in
from hwr.pages.write import Places


@dataclass(frozen=True)
class Plan:
    """What to read, how, and where to. `archive.read` carries it out.

    Attributes:
        found: The files to read, and what was found beside them.
        images: A further folder with page images, see `data.images`.
        kind: "page" or "line", if every image is one; None: decide by the image.
        segmenter: A name in `segment.SEGMENTERS`; None: the first.
        format: The format of the results.
        where: Their place.
        characters: Whether results hold the place of each character.
        min_confidence: Lines below this confidence get an empty text.
        model: The fingerprint of what reads, see `journal.fingerprint`; "" where nothing is kept for a later run.
        again: Whether to read pages again that were read before.
    """

    found: Found
    images: str | None
    kind: str | None
    segmenter: str | None
    format: Format
    where: Places
    characters: bool
    min_confidence: float
    model: str
    again: bool

    @property
    def files(self) -> Sequence[str]:
        """The files to read."""
        return self.found.files

    @property
    def located(self) -> bool:
        """Whether characters must be located."""
        return self.characters or self.format.places_words

    @property
    def more(self) -> dict[str, bool]:
        """Further arguments of the format's functions."""
        return {"characters": True} if self.characters else {}


def plan(
    inputs: Sequence[Path],
    model: Path,
    settings: Config,
    out: str | None = None,
    format: str | None = None,
    kind: str | None = None,
    segmenter: str | None = None,
    characters: bool = False,
    min_confidence: float = 0.0,
    again: bool = False,
    part: str | None = None,
) -> Plan:
    """Decide what to read and where to write, and check that nothing will be overwritten.

    Args:
        inputs: Files and folders.
        model: The checkpoint's file.
        settings: The settings that it reads with.
        out: A file for all pages, or a folder with a file for each; None: standard output, or, for formats of whole pages,
            a file beside each input.
        format: A name in `FORMATS`; None: that of the suffix of `out`, or txt.
        part: `K/N`: read every Nth file, beginning with the Kth. For the others, see `Plan`.

    Raises:
        Error: There is nothing to read; the choices contradict each other; a file would be overwritten that is not an earlier
            result of the same page.
    """
    name = format or _of_file(out)
    chosen = FORMATS[name]
    if segmenter and kind == "line":
        raise Error("--segmenter finds the lines of pages, and --line says that there are none; give only one")
    if characters and not chosen.holds_characters:
        names = " or ".join(name for name, other in FORMATS.items() if other.holds_characters)
        raise Error(f"--characters: the {name} format can't hold characters; choose --format {names}")
    if again and out is None:
        raise Error("--again applies to results in --out, which is not given")
    beside = out is None and chosen.rows is None
    place = Path(out) if out is not None else None
    found = files_in(inputs, settings.data.images, place, chosen.suffix if beside else "")
    files = _part(found.files, part)
    where = write.places(name, out, inputs, found.files)
    if part is not None and where.file is not None:
        raise Error("--part writes its own share; name a folder with --out")
    write.check(where, chosen, found.files)  # also those of the other parts
    choices = (characters, min_confidence, kind, segmenter, network(kind, segmenter))
    reader = fingerprint(model, settings, name, *choices) if place or beside else ""
    write.check_existing(where, chosen, files, Journals(where.folder, reader, again), "hwr predict", again=True)
    return Plan(
        found=found._replace(files=files),
        images=settings.data.images,
        kind=kind,
        segmenter=segmenter,
        format=chosen,
        where=where,
        characters=characters,
        min_confidence=min_confidence,
        model=reader,
        again=again,
    )


def _of_file(out: str | None) -> str:
    """The format that fits the suffix of a file; txt for a folder, or a file without a suffix."""
    if out is None or write.is_folder(out) or not Path(out).suffix:
        return "txt"
    fitting = of_suffix(Path(out))
    if len(fitting) != 1:
        fits = f"may be {' or '.join(fitting)}" if fitting else f"is the suffix of none of {', '.join(FORMATS)}"
        raise Error(f"--out {out}: {Path(out).suffix.lower()} {fits}; choose with --format")
    return fitting[0]


def _part(files: list[str], part: str | None) -> list[str]:
    """The files of a part, `K/N`."""
    if part is None:
        return files
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", part)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise Error(f"--part: {part!r} is not K/N with K from 1 to N, such as 2/10")
    chosen = files[int(found[1]) - 1 :: int(found[2])]
    if not chosen:
        raise Error(f"--part {part}: there are only {len(files)} files")
    return chosen
