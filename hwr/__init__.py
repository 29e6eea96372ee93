"""Handwritten text recognition.

    import hwr

    model = hwr.load()                       # the bundled model, or a file: .safetensors, .params, .onnx
    model.read("line.png").text
    page = model.read_page("photo.jpg", characters=True)
    page.text                                # the lines in reading order
    page.save("photo.pdf")
    for page in model.read_files(["scans/", "book.pdf"]):
        print(page.source, page.errors or page.text)
    hwr.evaluate(model, "data/mine").cer
    hwr.train("lines_cpu", out="runs/mine", overrides=["data.root=data/mine"])

These names are imported on first use, so that `import hwr` is fast.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Config", "Error", "PageReading", "Reading", "Recognizer", "Report", "evaluate", "load", "train"]

if TYPE_CHECKING:
    from hwr.config import Config
    from hwr.evaluation.evaluate import Report, evaluate
    from hwr.pages.page_reading import PageReading
    from hwr.recognizer import Reading, Recognizer, load
    from hwr.training.loop import train


class Error(Exception):
    """An error that the user can fix. The message names the file, line or key, and the remedy.

    The command line prints only the message, and exits with status 2.
    """


if not TYPE_CHECKING:  # type checkers would take any name for an attribute

    def __getattr__(name: str) -> Any:
        match name:
            case "Config":
                from hwr import config as module
            case "Report" | "evaluate":
                from hwr.evaluation import evaluate as module
            case "PageReading":
                from hwr.pages import page_reading as module
            case "Reading" | "Recognizer" | "load":
                from hwr import recognizer as module
            case "train":
                from hwr.training import loop as module
            case "beam" | "lm" | "words":
                from hwr import former

                return former.module(name)
            case _:
                raise AttributeError(f"module 'hwr' has no attribute {name!r}")
        return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
