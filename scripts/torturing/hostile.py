"""Hostile files: nothing outside the given folders is read or written, nothing reaches the terminal unescaped or runs."""

import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwr import checkpoint
from torturing.common import Ended, Result, content, hwr, picture, world

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x1b[6n"
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
PAGE = (
    '<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><Page imageFilename="{image}"'
    ' imageWidth="200" imageHeight="60"><TextRegion id="r"><TextLine id="{id}"><Coords points="2,2 150,2 150,20 2,20"/>'
    "<TextEquiv><Unicode>{text}</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"
)


class Place:
    """A folder for one attack, with a secret beside it that must not be read, and nothing else that may appear there."""

    def __init__(self, made: Path, above: Path) -> None:
        self.above = above
        self.here = above / "here"
        shutil.copytree(made, self.here)
        self.secret = picture(above / "secret.png")
        shutil.copy(made / "small.yaml", above / "secret.yaml")
        (above / "secret.txt").write_text("the secret text\n")
        self.secrets = [self.secret, above / "secret.yaml", above / "secret.txt"]
        self.opened = above / "opened"
        self.before = content(above)
        for path in self.secrets:  # an access time is updated if it is older than the last change
            os.utime(path, (1, path.stat().st_mtime))

    def faults(self, ended: Ended) -> list[str]:
        """What is wrong after a command."""
        faults = []
        if ended.traceback:
            faults.append(f"a traceback: {ended.said[-300:]}")
        if ended.status not in (0, 1, 2):
            faults.append(f"status {ended.status}: {ended.said[-300:]}")
        if ended.unescaped:
            faults.append(f"control characters reached the terminal: {ended.said[-300:]!r}")
        read = [path.name for path in self.secrets if path.stat().st_atime > 1]
        read += self.opened.read_text().split("\n")[:-1] if self.opened.exists() else []
        if read:
            faults.append(f"read {', '.join(sorted(set(read)))} outside its folder")
        inside = {path.name for path in self.above.iterdir()}
        written = inside - {"here", "opened"} - self.before.keys()
        if written:
            faults.append(f"wrote {', '.join(sorted(written))} outside its folder")
        return faults

    def watch(self) -> None:
        """In the child process: note every file beside the folder that Python opens."""

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and isinstance(arguments[0], str | bytes | Path):
                path = os.path.realpath(os.fsdecode(arguments[0]))
                if path.startswith(f"{self.above}/secret"):
                    with open(self.opened, "a", encoding="utf-8") as file:
                        file.write(f"{os.path.basename(path)}\n")
            if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
                with open(self.opened, "a", encoding="utf-8") as file:
                    file.write(f"started a program: {arguments[0]}\n")

        sys.addaudithook(hook)


Attack = Callable[[Place], list[object]]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Note an attack: it makes files in a place, and returns the command that meets them."""
    ATTACKS[str(function.__doc__)] = function
    return function


def _pages(place: Place, **values: str) -> Path:
    folder = place.here / "evil"
    folder.mkdir()
    picture(folder / "page.png", 200)
    made = {"image": "page.png", "id": "l1", "text": "a text", **values}
    (folder / "page.xml").write_text(PAGE.format(**made), encoding="utf-8")
    return folder


def _attacks_by_pages() -> None:
    images = (
        "../../secret.png",
        "/proc/self/environ",
        "file:///etc/passwd",
        "..\\..\\secret.png",
        "http://127.0.0.1:9/x.png",
    )
    for number, image in enumerate(images):
        for verb in ("summary", "predict"):

            def made(place: Place, image: str = image, verb: str = verb) -> list[object]:
                folder = _pages(place, image=image)
                (folder / "page.png").unlink()
                if verb == "summary":
                    return ["data", "summary", folder]
                return ["predict", "--checkpoint", "model.safetensors", folder, "--format", "page", "--out", "read"]

            ATTACKS[f"page names the image {image} ({verb} {number})"] = made
    for what, values in {
        "id": {"id": "&#x9b;31m"},
        "text": {"text": "&#x9b;31m\u202e"},
        "image": {"image": "&#x9b;31m.png"},
    }.items():
        for verb in ("summary", "predict", "tsv"):

            def shown(place: Place, values: dict[str, str] = values, verb: str = verb) -> list[object]:
                folder = _pages(place, **values)
                if verb == "summary":
                    return ["data", "summary", folder]
                return [
                    "predict",
                    "--checkpoint",
                    "model.safetensors",
                    folder,
                    "--format",
                    "tsv" if verb == "tsv" else "json",
                ]

            ATTACKS[f"page with control characters in its {what} ({verb})"] = shown


def _attacks_by_xml() -> None:
    bodies = {
        "entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]>',
        "parameter entity": '<!DOCTYPE a [<!ENTITY % x SYSTEM "file://{secret}"> %x;]>',
        "external DTD": '<!DOCTYPE a SYSTEM "file://{secret}">',
        "bomb": '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        "style sheet": '<?xml-stylesheet href="file://{secret}" type="text/xsl"?>',
        "schema": "",
    }
    for name, head in bodies.items():

        def made(place: Place, head: str = head, name: str = name) -> list[object]:
            folder = _pages(place)
            text = (folder / "page.xml").read_text(encoding="utf-8")
            text = head.format(secret=place.above / "secret.txt") + text.replace(
                "a text", "&x;" if "entity" in name else "a"
            )
            if name == "schema":
                include = f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{place.above}/secret.txt" parse="text"/>'
                text = text.replace("<TextEquiv>", f"{include}<TextEquiv>")
            (folder / "page.xml").write_text(text, encoding="utf-8")
            return ["data", "summary", folder]

        ATTACKS[f"XML with {name}"] = made


def _attacks_by_tables() -> None:
    for name in ("../secret.png", "{above}/secret.png", "a/../../secret.png", f"{ESCAPES}.png"):
        for suffix in ("tsv", "jsonl"):

            def made(place: Place, name: str = name, suffix: str = suffix) -> list[object]:
                path, image = place.here / f"evil.{suffix}", name.format(above=place.above)
                row = (
                    f"image\ttext\n{image}\tx\n"
                    if suffix == "tsv"
                    else json.dumps({"image": image, "text": ESCAPES}) + "\n"
                )
                path.write_text(row, encoding="utf-8")
                return ["data", "summary", path]

            ATTACKS[f"{suffix} names the image {name!r}"] = made


@attack
def _iam(place: Place) -> list[object]:
    """a form's id leads out of the folder"""
    xml = place.here / "data/xml/synth0001-000.xml"
    xml.write_text(xml.read_text().replace('id="synth0001-000-00"', 'id="../../../secret"'))
    return ["train", "--config", "small.yaml", "--out", "run", "--set", "train.epochs=1"]


@attack
def _lists(place: Place) -> list[object]:
    """a list's id leads out of the folder"""
    folder = next((place.here / "data").glob("large*"))
    (folder / "trainset.txt").write_text("../../../secret\n")
    return ["data", "convert", "data", "out", "--to", "gt"]


@attack
def _gt(place: Place) -> list[object]:
    """texts and names with escape sequences"""
    folder = place.here / ESCAPES
    folder.mkdir()
    for name in (f"a{ESCAPES}", "b\r\nc"):
        picture(folder / f"{name}.png")
        (folder / f"{name}.gt.txt").write_text("text\n")
    (folder / "d.gt.txt").write_text(ESCAPES)
    return ["data", "convert", folder, "out", "--to", "table"]


def _checkpoint_with(place: Place, change: Callable[[dict[str, Any]], None]) -> str:
    arrays, about = checkpoint.read_arrays(place.here / "model.safetensors")
    change(about)
    checkpoint.write_arrays(place.here / "evil.safetensors", arrays, about)
    return "evil.safetensors"


def _attacks_by_checkpoints() -> None:
    keys = (
        ("data", "root"),
        ("data", "lists"),
        ("data", "images"),
        ("data", "cache"),
        ("data", "alphabet"),
        ("train", "init"),
        ("decode", "lm"),
        ("decode", "words"),
        ("model", "pretrained"),
    )
    for section, key in keys:
        for command in (["info"], ["predict", "data/lines/synth0001", "--checkpoint"], ["evaluate", "--checkpoint"]):

            def made(
                place: Place, section: str = section, key: str = key, command: list[str] = command
            ) -> list[object]:
                def change(about: dict[str, Any]) -> None:
                    about["config"][section][key] = str(place.above / "secret.txt")

                return [*command, _checkpoint_with(place, change)]

            ATTACKS[f"checkpoint names a file in {section}.{key} ({command[0]})"] = made
    for key in ("alphabet", "scores", "lm"):

        def shown(place: Place, key: str = key) -> list[object]:
            def change(about: dict[str, Any]) -> None:
                match key:
                    case "alphabet":
                        about["alphabet"] = about["alphabet"][:-1] + "\x1b"
                    case "scores":
                        about["scores"] |= {ESCAPES: ESCAPES, "split_name": ESCAPES, "trained_on": [ESCAPES]}
                    case "lm":
                        about["lm"]["characters"] = "\x1b" + about["lm"]["characters"][1:]

            return ["info", _checkpoint_with(place, change)]

        ATTACKS[f"checkpoint with escape sequences in its {key}"] = shown


@attack
def _yaml(place: Place) -> list[object]:
    """config with escape sequences"""
    (place.here / "evil.yaml").write_text('data:\n  "\\e[2J": x\n  root: "\\e[2J"\n')
    return ["train", "--config", "evil.yaml", "--out", "run"]


@attack
def _python(place: Place) -> list[object]:
    """config that calls Python"""
    (place.here / "evil.yaml").write_text("data: !!python/object/apply:os.system ['touch ../owned']\n")
    return ["train", "--config", "evil.yaml", "--out", "run"]


@attack
def _eps(place: Place) -> list[object]:
    """EPS named PNG"""
    (place.here / "evil.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 40\n(%pipe%touch ../owned) run\n"
    )
    return ["predict", "--checkpoint", "model.safetensors", "evil.png"]


@attack
def _pickle(place: Place) -> list[object]:
    """pickle named checkpoint"""
    (place.here / "evil.safetensors").write_bytes(b"cos\nsystem\n(S'touch ../owned'\ntR.")
    return ["info", "evil.safetensors"]


@attack
def _font(place: Place) -> list[object]:
    """damaged font with escape sequences in its name"""
    (place.here / "fonts").mkdir()
    (place.here / f"fonts/{ESCAPES}.ttf").write_bytes(b"\0\1\0\0" + bytes(40))
    return ["synth", "--out", "out", "--fonts", "fonts", "--text", "text.txt"]


@attack
def _pipe(place: Place) -> list[object]:
    """pipes and devices among the images"""
    folder = place.here / "evil"
    folder.mkdir()
    os.mkfifo(folder / "a.png")
    (folder / "b.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "c.xml")
    picture(folder / "d.png")
    return ["predict", "--checkpoint", "model.safetensors", folder]


def run(say: Callable[[str], None], every: int = 1) -> list[Result]:
    """Run every attack (or every so manieth), the archives, and the report."""
    if len(ATTACKS) < 20:
        _attacks_by_pages()
        _attacks_by_xml()
        _attacks_by_tables()
        _attacks_by_checkpoints()
    result = Result("Hostile files, names and texts")
    with tempfile.TemporaryDirectory(prefix="torture") as name:
        top = Path(os.path.realpath(name))
        made = world(top / "made", 24)
        for number, (what, prepare) in list(enumerate(ATTACKS.items()))[::every]:
            place = Place(made, top / str(number))
            arguments = prepare(place)
            start = time.monotonic()
            ended = hwr(*arguments, folder=place.here, before=place.watch)
            faults = place.faults(ended)
            if time.monotonic() - start > 120:
                faults.append("took two minutes")
            result.check(not faults, f"{what}: {'; '.join(faults)}")
            shutil.rmtree(place.above, ignore_errors=True)
        say(str(result))
        results = [result, _archives(top), _report(made, top)]
    for each in results[1:]:
        say(str(each))
    return results


def _archives(top: Path) -> Result:
    """Archives whose members lead out of the folder, are links or devices, or are huge."""
    from hwr import Error
    from hwr.data.iam_archive.unpack import unpack

    result = Result("Hostile archives")
    for name in (
        "../owned",
        "/tmp/owned-by-an-archive",
        "a/../../owned",
        "..\\owned",
        "C:\\owned",
        ESCAPES,
        "",
    ):
        for kind in ("zip", "tgz"):
            file = io.BytesIO()
            if kind == "zip":
                with zipfile.ZipFile(file, "w") as archive:
                    archive.writestr(zipfile.ZipInfo(name or "./"), b"owned")
            else:
                with tarfile.open(fileobj=file, mode="w:gz") as tar:
                    tar.addfile(tarfile.TarInfo(name or "."), io.BytesIO())
                    for link in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
                        member = tarfile.TarInfo("link")
                        member.type, member.linkname = link, "/etc/passwd"
                        tar.addfile(member)
            here = top / "archives"
            here.mkdir()
            (here / f"evil.{kind}").write_bytes(file.getvalue())
            fault = "was unpacked"
            try:
                unpack(here / f"evil.{kind}", here / "out")
            except Error:
                fault = ""
            left = {path.name for path in here.iterdir()} - {f"evil.{kind}"}
            outside = [path for path in (top / "owned", Path("/tmp/owned-by-an-archive")) if path.exists()]
            result.check(not fault and not left and not outside, f"{kind} with {name!r}: {fault} {left} {outside}")
            shutil.rmtree(here)
    return result


def _report(made: Path, top: Path) -> Result:
    """Nothing of a dataset is HTML in the report."""
    result = Result("Hostile texts in the report")
    folder = top / "report"
    folder.mkdir()
    rows = []
    for number in range(30):
        picture(folder / f"{number}.png")
        evil = SCRIPT if number % 2 else f"</script>{SCRIPT}<!--"
        row = {"file_name": f"{number}.png", "text": evil, "id": f"{number}{evil}", "writer": f"w{number % 5}{evil}"}
        rows.append(json.dumps({**row, "split": ("train", "val", "test")[number % 3]}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    report = top / "report.html"
    keys = ["--set", f"data.root={folder}", f"data.cache={top / 'cache'}", "data.format=table"]
    ended = hwr("evaluate", "--checkpoint", made / "model.safetensors", *keys, "--report", report, folder=top)
    result.check(not ended.status, ended.said[-300:])
    if report.exists():
        from hwr.evaluation import report_html

        page = report.read_text(encoding="utf-8")
        template = Path(report_html.__file__).with_name("report_page.html").read_text(encoding="utf-8")
        for tag in ("<script", "</script", "<img", "onerror", "<!--"):
            found, own = (len(re.findall(tag, text)) for text in (page, template))
            expected = own if tag != "onerror" else found
            result.check(found == expected, f"{found} times {tag} in the report, {own} of them its own")
    return result
