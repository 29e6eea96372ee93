"""The command `hwr serve`."""

from pathlib import Path

import click

from hwr import Error
from hwr.cli.options import READING, Command, examples, refuse_unused, set_option
from hwr.system.terminal import say

# Sections and keys of --set that only trainings use.
TRAINING = ("train", "augment", "self_training")


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="A .safetensors file to read with and to fine-tune (default: the model that the folder used last, else "
    "$HWR_MODEL or hwr-latin, the bundled model).",
)
@set_option
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port; 0 chooses a free one (default: 8000).")
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="Address to listen on; any but this computer's own needs a token (default: 127.0.0.1).",
)
@click.option(
    "--token",
    envvar="HWR_TOKEN",
    show_envvar=True,
    help="What clients must show, at least 16 characters (default with --host: a new one, which is printed).",
)
@click.option(
    "--max-upload",
    default=200,
    type=click.IntRange(1, 10_000),
    metavar="MB",
    help="The largest upload, in megabytes (default: 200).",
)
@examples("""
    hwr serve letters/
    hwr serve letters/ --port 9000 --checkpoint runs/mine/best.safetensors
    hwr serve letters/ --set train.epochs=20
    HWR_TOKEN=$(openssl rand -hex 16) hwr serve letters/ --host 0.0.0.0
""")
def serve(
    folder: Path,
    checkpoint: str | None,
    overrides: tuple[str, ...],
    port: int,
    host: str,
    token: str | None,
    max_upload: int,
) -> None:
    """Open a folder of page images in the browser: read them, correct the texts, and train on the corrections.

    The texts are kept in a PAGE file beside each image. The same address has a REST API, described at /api/openapi.json.
    Ctrl-C stops the server; a training that runs is saved and can be resumed.
    """
    refuse_unused(overrides, *TRAINING, *READING)
    try:
        from hwr.serve import run
    except ImportError as error:
        raise Error(f"hwr serve needs the extra serve: pip install -e '.[serve]' ({error})") from None

    def of(text: str) -> str:
        return text.partition("=")[0].partition(".")[0]  # the section, also of train={epochs: 20}

    training = [text for text in overrides if of(text) in (*TRAINING, "engine")]
    reading = [text for text in overrides if of(text) not in TRAINING]
    run.run(folder, checkpoint, reading, training, host, port, token, max_upload * 1_000_000, say)
