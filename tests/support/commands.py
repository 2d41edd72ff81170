"""Running a management command as a shell would see it: exit code, output, errors."""

from io import StringIO
from typing import NamedTuple

from django.core.management import CommandError, call_command


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: object) -> Ran:
    """A command with its exit code, as a shell would see it."""
    out, err = StringIO(), StringIO()
    try:
        call_command(*(str(argument) for argument in arguments), stdout=out, stderr=err)
    except CommandError as error:
        return Ran(error.returncode, out.getvalue(), f"{err.getvalue()}{error}")
    except SystemExit as error:
        return Ran(int(error.code or 0), out.getvalue(), err.getvalue())
    return Ran(0, out.getvalue(), err.getvalue())
