"""`hwr data convert`: a dataset in another format."""

from pathlib import Path

from hwr.data import PARTS, Dataset
from hwr.data.formats import FORMATS
from hwr.system.atomic import new_folder


def convert(dataset: Dataset, out: Path, kind: str) -> list[str]:
    """Write a dataset in another format, one of `formats.FORMATS`.

    Lines of pages stay on their pages in PAGE and ALTO; elsewhere each gets an image, cut out as training sees it. The
    parts go into the column `split` of a table, into IAM's lists, and otherwise into lists/{train,val,test}.txt, which
    are used when the new dataset is read.

    Returns:
        What the new dataset lacks, a sentence each.

    Raises:
        Error: The folder exists already, or can't be written; a text that the format can't hold. Then nothing is written.
    """
    with new_folder(out) as folder:
        FORMATS[kind].write(dataset, folder)
    writers = {line.writer for part in PARTS for line in dataset.part(part)} - {""}
    if not writers or FORMATS[kind].KEEPS_WRITERS:
        return []
    return [f"{kind} holds no writers: the {len(writers)} of this dataset are not written"]
