"""Pages, lines, jobs and models as JSON values."""

from typing import Any

from hwr.serve.project.database import Characters, Job
from hwr.serve.project.page_state import LineState, PageState
from hwr.serve.training.models import BASE, Models

# The confidence below which a prediction counts as uncertain. At this value about one character in ten is wrong.
UNCERTAIN = 0.9


def line(line: LineState, characters: tuple[str, Characters] | None) -> dict[str, Any]:
    """A line; its characters only if they make up its text still."""
    own = characters[1] if characters and characters[0] == line.text and line.state == "read" else []
    return {
        "id": line.id,
        "text": line.text,
        "state": line.state,
        "confidence": line.confidence,
        "polygon": line.polygon,
        "baseline": line.baseline,
        "revision": line.revision,
        "fault": line.fault,
        "characters": own,
    }


def page(page: PageState, characters: dict[str, tuple[str, Characters]]) -> dict[str, Any]:
    """A page with its lines."""
    lines = [line(one, characters.get(one.id)) for one in page.lines]
    return {**summary(page), "width": page.width, "height": page.height, "lines": lines}


def summary(page: PageState) -> dict[str, Any]:
    """A page in the list of pages."""
    left = [one for one in page.lines if one.state != "checked"]
    sure = [one.confidence for one in left if one.confidence is not None]
    return {
        "id": page.id,
        "name": page.name,
        "state": page.state,
        "revision": page.revision,
        "error": page.error,
        "count": len(page.lines),
        "left": len(left),
        "uncertain": sum(confidence < UNCERTAIN for confidence in sure),
        "confidence": sum(sure) / len(sure) if sure else None,
        "expected_errors": sum((1 - (one.confidence or 0)) * len(one.text) for one in left if one.state == "read"),
    }


def job(job: Job) -> dict[str, Any]:
    """A job."""
    return dict(job.__dict__)


def models(models: Models) -> dict[str, Any]:
    """The models of a project, and which of them reads."""
    return {
        "current": models.current,
        "base": models.base if isinstance(models.base, str) else models.base.stem,
        "trained": [dict(model.__dict__) for model in models.trained()],
        "base_name": BASE,
    }
