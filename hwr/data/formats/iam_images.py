"""The images of a folder in IAM's layout; they are found here, not opened."""

import os
from pathlib import Path

from hwr import Error
from hwr.system import files

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


def images_in(folder: Path) -> dict[str, Path]:
    """Map image ids (NFC) to files for one folder, hidden files skipped; empty if there is no such folder.

    Raises:
        Error: Two images of one id, as in `a.png` beside `a.jpg`; the folder is unreadable.
    """
    found: dict[str, Path] = {}
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if _is_image(e.name) and e.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return found
    except OSError as error:
        raise Error(f"{folder}: could not be read: {error.strerror or error}") from error
    for name in names:
        if other := found.get(stem := files.nfc(name.rpartition(".")[0])):
            raise Error(f"{folder / name}: {other.name} exists too; an id must have one image")
        found[stem] = folder / name
    return found


def image_folder(root: Path, unit: str, form_id: str) -> Path:
    """The folder with the images of a form's lines or words: `lines/a01/a01-000u`."""
    return files.named(root / f"{unit}s", f"{form_id.partition('-')[0]}/{form_id}")


def page_images(root: Path) -> dict[str, Path]:
    """Map form ids to images, for all in and below the folders `forms*`.

    Raises:
        Error: Two images of one id; an unreadable folder.
    """
    found: dict[str, Path] = {}
    tops = sorted(path for path in root.glob("forms*") if path.is_dir())
    for folder in (folder for top in tops for folder, _ in files.walk(top)):
        for id, path in images_in(Path(folder)).items():
            if id in found:
                raise Error(f"{path}: {found[id]} exists too; an id must have one image")
            found[id] = path
    return found


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")
