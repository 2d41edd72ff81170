"""Arms the product's failpoints (coupons/runtime/failpoints.py) in the folder that its processes look into."""

import contextlib
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from coupons.runtime.failpoints import POINTS, parse_action


def arm(folder: Path, point: str, action: str) -> None:
    """Arms the point for the next process that passes it, and removes the records of earlier actions."""
    _check_point(point)
    parse_action(action)
    for done in folder.glob(f"{point}.done-*"):
        done.unlink()
    fresh = folder / f"{point}.new"
    fresh.write_text(action)
    fresh.rename(folder / f"{point}.armed")  # a process never reads a half-written file


def disarm(folder: Path, point: str) -> bool:
    """Returns False if the action has happened already, or the point was never armed."""
    _check_point(point)
    with contextlib.suppress(FileNotFoundError):
        (folder / f"{point}.armed").unlink()
        return True
    return False


def done_by(folder: Path, point: str) -> int | None:
    """Returns the pid of the process that performed the action, or None so far."""
    _check_point(point)
    return next((int(path.name.rpartition("-")[2]) for path in folder.glob(f"{point}.done-*")), None)


def _check_point(point: str) -> None:
    if point not in POINTS:
        raise ImproperlyConfigured(f"failpoint {point!r} is none of {', '.join(sorted(POINTS))}.")
