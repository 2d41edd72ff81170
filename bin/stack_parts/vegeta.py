"""Builds vegeta, the benchmarks' open-loop client, with Go into `.stack/tools`, once for all stacks of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import packages, settings
from .errors import StackError
from .home import CHECKOUT

FOLDER = CHECKOUT / ".stack" / "tools"
STAMP = FOLDER / "vegeta.version"


def ensure() -> None:
    """Ensures that the pinned version is built. Raises StackError, which names what is missing."""
    version = settings.VEGETA.rpartition("@")[2]
    if (FOLDER / "vegeta").exists() and STAMP.exists() and STAMP.read_text() == version:
        return
    packages.ensure([packages.Need(f"Go >= 1.{settings.GO_MINOR} (https://go.dev/dl)", go, "go")])
    print(f"packages  go install {settings.VEGETA}", file=sys.stderr)
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [str(go()), "install", settings.VEGETA],
        env={**os.environ, "GOBIN": str(FOLDER)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise StackError(f"go install {settings.VEGETA} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    # crash before here => the next run builds it again
    STAMP.write_text(version)


def go() -> Path | None:
    """A new enough `go` from the PATH, or from the folders of its archive and of Debian's versioned packages."""
    on_path = shutil.which("go")
    candidates = [Path(on_path)] if on_path else []
    candidates += [Path("/usr/local/go/bin/go"), *sorted(Path("/usr/lib").glob("go-1.*/bin/go"), reverse=True)]
    return next((path for path in candidates if path.exists() and _minor(path) >= settings.GO_MINOR), None)


def _minor(program: Path) -> int:
    try:
        done = subprocess.run([program, "version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"go1\.(\d+)", done.stdout)
    return int(match[1]) if match else 0
