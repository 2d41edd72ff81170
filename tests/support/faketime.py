"""Steps the wall clock of a process of a test, whatever language it is written in (faketime.c, compiled at need)."""

import os
import subprocess
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def environment(file: Path) -> dict[str, str]:
    """For processes whose clock `file` moves; it is made if it is not there: no step. Their children have it too."""
    if not file.exists():
        step(file, 0.0)
    return {"LD_PRELOAD": str(_library()), "FAKETIME_FILE": str(file)}


def step(file: Path, seconds: float) -> None:
    """Set their wall clock to so much later (or earlier) than the true time, at once."""
    with file.open("r+b" if file.exists() else "wb") as opened:  # the same file: it is mapped
        opened.write(round(seconds * 1_000_000).to_bytes(8, "little", signed=True))


@cache
def _library() -> Path:
    library = Path(os.environ["STACK_HOME"]).resolve() / "faketime.so"
    fresh = library.with_suffix(f".{os.getpid()}")
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-pthread", "-o", str(fresh), str(SOURCE)]
    subprocess.run(command, check=True)
    fresh.rename(library)  # another process may have the former one mapped
    return library
