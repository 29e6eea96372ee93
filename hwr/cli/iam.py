"""`hwr iam`: the IAM handwriting database."""

import sys
from pathlib import Path

import click

from hwr.cli.options import Group, examples
from hwr.system.terminal import echo

root_option = click.option("--root", default="data/iam", show_default=True, metavar="FOLDER", help="IAM's folder.")


@click.group(cls=Group)
def iam() -> None:
    """Download and check the IAM handwriting database."""


@iam.command()
@root_option
@click.option(
    "--email", envvar="HWR_IAM_EMAIL", prompt="E-mail", help="The e-mail you registered with [env: HWR_IAM_EMAIL]."
)
@click.option(
    "--password",
    envvar="HWR_IAM_PASSWORD",
    prompt=True,
    hide_input=True,
    help="Safer left to the prompt or to HWR_IAM_PASSWORD.",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["xml", "lines", "words", "forms", "ascii", "lists"]),
    default=["xml", "lines", "ascii", "lists"],
    show_default=True,
    help="What to download; repeatable.",
)
@click.option("--keep-archives", is_flag=True, help="Keep the archives after unpacking them.")
@examples("""
    hwr iam download --root data/iam
    HWR_IAM_EMAIL=me@example.org hwr iam download --root data/iam --part words
""")
def download(root: str, email: str, password: str, parts: tuple[str, ...], keep_archives: bool) -> None:
    """Download IAM and unpack it. Registration on the FKI's site is free.

    After an interruption, run it again: finished downloads are kept. Your e-mail and password go to that server over HTTPS
    and are not stored.
    """
    from hwr.data.iam_archive.download import download as run

    for folder in run(Path(root), email, password, parts=parts, keep_archives=keep_archives):
        echo(folder)


@iam.command()
@root_option
@click.option("--images/--no-images", default=True, show_default=True, help="Decode every image to find damaged ones.")
@examples("""
    hwr iam check --root data/iam
    hwr iam check --root data/iam --no-images
""")
def check(root: str, images: bool) -> None:
    """Count forms, lines, words and splits against IAM's official numbers, and list what is missing or damaged.

    The exit status is 1 if anything is missing or damaged.
    """
    from hwr.data.iam_archive.check import check as run
    from hwr.data.iam_archive.check import summary

    report = run(Path(root), images=images)
    echo(summary(report))
    if not report.ok:
        sys.exit(1)
