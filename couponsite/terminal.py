"""Keeps terminals out of what a program does: no text, encoding, pipe or full disk changes how it ends.

Needs the standard library alone, since manage.py, bin/stack and bin/run call it before anything else.
"""

import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO


def make_printing_harmless() -> None:
    """Replaces standard output and standard error, for the whole process and those that it forks.

    A character that the terminal's encoding lacks is written as an escape. When the output cannot be written, because
    its pipe was closed or its disk is full, the rest of it is dropped; the latter is said on standard error.
    """
    sys.stdout, sys.stderr = _harmless(sys.stdout, 1), _harmless(sys.stderr, 2)


def refuse_unreadable_arguments(program: str) -> None:
    """Ends the program with exit code 2 if an argument is not text: bytes of another encoding than the terminal's."""
    for before, argument in zip(sys.argv, sys.argv[1:], strict=False):
        if not _is_text(argument):
            where = f"what follows {before}" if _is_text(before) else "an argument"
            encoding = sys.getfilesystemencoding()
            print(
                f"{program}: {where} is no text in {encoding}: {argument!a}. "
                f"Set the terminal to {encoding}, or LANG to the terminal's encoding.",
                file=sys.stderr,
            )
            sys.exit(2)


class _Descriptor(io.FileIO):
    """A file descriptor that leads nowhere after its first error."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if self.fileno() != 2 and not isinstance(error, BrokenPipeError):
                print(f"The output could not be written: {error.strerror}.", file=sys.stderr)
            return len(data)


def _harmless(stream: TextIO | None, number: int) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        # None: the descriptor was closed (`>&-`). Opening it again keeps a socket from becoming standard output.
        return Path(os.devnull).open("w") if stream is None else stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:  # Python keeps a byte that it cannot decode as half a character
        return False
    return True
