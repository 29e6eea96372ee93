"""`hwr data convert`: a dataset in another format."""

from pathlib import Path

from hwr import Error
from hwr.data import Dataset
from hwr.data.formats import FORMATS, PAGE_FORMATS
from hwr.system.atomic import new_folder
from hwr.system.terminal import counted, some


def convert(dataset: Dataset, out: Path, kind: str) -> list[str]:
    """Write a dataset in another format, one of `formats.FORMATS`.

    Lines of pages stay on their pages in PAGE and ALTO; elsewhere each gets an image, cut out as training sees it. The
    parts go into the column `split` of a table, into IAM's lists, and otherwise into lists/{train,val,test}.txt, which
    are used when the new dataset is read.

    Returns:
        What the new dataset lacks, a sentence each.

    Raises:
        Error: The folder exists already, or can't be written; a text that the format can't hold; a line in two parts.
            Then nothing is written.
    """
    if both := sorted({line.id for line in dataset.val} & {line.id for line in dataset.test}):
        raise Error(
            f"{counted(len(both), 'line is', 'lines are')} in data.val and in data.test ({some(both)}), and a converted dataset has a line in one "
            "part only; set data.val to other lists"
        )
    with new_folder(out) as folder:
        FORMATS[kind].write(dataset, folder)
    lost = []
    writers = {line.writer for line in dataset.lines} - {""}
    if writers and not FORMATS[kind].KEEPS_WRITERS:
        lost.append(f"{kind} holds no writers: the {len(writers)} of this dataset are not written")
    marked = {line.source.rpartition(":")[0] for line in dataset.lines if line.region or line.baseline}
    read = sum(name.lower().endswith(".xml") for name in marked)
    if read and kind in PAGE_FORMATS:
        lost.append(
            f"the {kind} files are new: of the {read} XML files read, they hold the lines with text, nothing else"
        )
    return lost
