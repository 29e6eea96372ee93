"""What people see: the only module that prints. It shows control characters instead of sending them to the terminal.

File names, texts, ids and config keys may come from a stranger. An escape sequence in one could move the cursor, recolour or
rename the terminal, or make it type.
"""

import contextlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType, TracebackType

# What turns or isolates the direction of the text around it, so that `gpj.exe` is shown as `exe.jpg`.
_TURNING = "\u202a-\u202e\u2066-\u2069"
# Control characters, the separators that break lines, halves of UTF-16 pairs (bytes of file names that are not UTF-8), and
# the two other characters that XML can't hold.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_HALVES = re.compile("[\ud800-\udfff]")
_UNSEEN = re.compile(CONTROL.pattern.replace("[", rf"(?![\t\n])[{_TURNING}", 1))
# What readers of text files take for the end of a line, and the tab: none may occur in a cell of a TSV.
_BREAK = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")


def visible(text: object) -> str:
    r"""The text with control characters as `\u001b`, except line breaks and tabs.

    This is also JSON's notation, so JSON stays JSON.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def unicode(text: str) -> str:
    """The text with a replacement character for each half of a UTF-16 pair: bytes of file names that are not UTF-8."""
    return _HALVES.sub("\ufffd", text)


def cell(text: str) -> str:
    """The text as a cell of a TSV: tabs and line breaks become spaces, other control characters as in `visible`."""
    return visible(_BREAK.sub(" ", text))


def some(names: Sequence[object], most: int = 1) -> str:
    """The first names for a message, with `…` for the others."""
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 page`, `2,000 pages`. `many` is the plural, if it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def echo(message: object, err: bool = False) -> None:
    """Print a message, with control characters shown, to stdout or stderr. A stderr that can't be written to is ignored.

    Raises:
        OSError: stdout can't be written to.
    """
    import click

    text = visible(message)
    try:
        click.echo(text, err=err)
    except UnicodeEncodeError:  # the locale's encoding lacks a character
        stream = sys.stderr if err else sys.stdout
        click.echo(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding), err=err)
    except OSError:
        if not err:
            raise
        discard(2)


def say(line: str) -> None:
    """Print a line. Once the reader is gone (`| head`, a closed terminal), continue silently."""
    try:
        echo(line)
    except OSError:
        discard(1)


def discard(descriptor: int) -> None:
    """Let stdout (1) or stderr (2) go nowhere from now on, so that what is still buffered can't fail at the end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def prepare() -> None:
    """Make this process a well-behaved program: open streams, tracebacks without control characters, an orderly end.

    SIGTERM and SIGHUP end it as an exception does, so that temporary files are removed. During an import, these and Ctrl-C
    end it at once: libraries turn an exception there into errors and tracebacks of their own. A signal that is ignored
    (nohup) stays ignored.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        # A closed stream's number would be given to the next file that is opened, and messages would be written into it.
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115
    sys.excepthook = _show
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    caller = frame
    while caller is not None:
        if caller.f_code.co_filename == "<frozen importlib._bootstrap>":
            os._exit(128 + number)
        caller = caller.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    echo("".join(traceback.format_exception(kind, error, trace)).rstrip(), err=True)
