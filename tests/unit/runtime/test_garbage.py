"""The start of a program collects no garbage; the program does."""

import subprocess
import sys

from tests.support.process import ROOT


def test_a_command_collects_all_but_what_its_start_has_made() -> None:
    asked = "import gc; print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", asked]

    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "True True\n"
