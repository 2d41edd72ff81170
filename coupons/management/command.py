"""What all commands share: help with examples as they are written, and errors as exit codes instead of tracebacks."""

import argparse
import getpass
import os
import signal
from abc import ABC, abstractmethod
from datetime import UTC
from types import FrameType
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive

from coupons.errors import DATABASE_DOWN, OperatorError, PushDidNotArrive, RetryLater, one_line
from coupons.runtime.signal_event import SignalEvent
from coupons.runtime.text import visible

EXIT_REFUSED = 1  # what was asked cannot be done, or the answer is "no"
EXIT_UNAVAILABLE = 2  # PostgreSQL, Redis or Kafka did not answer: nothing is known, try again


class _ExamplesFormatter(argparse.RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Keeps the lines of the examples, and Django's order of the options."""


class CouponCommand(BaseCommand, ABC):
    """A command parses, calls one function and prints. `examples` stand at the end of its --help."""

    examples = ""
    # Those of the settings. Django's own look at the addresses, the admin and the API, which no command uses: importing
    # them would be a third of a consumer's start.
    requires_system_checks = ["coupons"]

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        epilog = f"examples:\n{self.examples.rstrip()}" if self.examples else None
        return super().create_parser(prog_name, subcommand, formatter_class=_ExamplesFormatter, epilog=epilog, **kwargs)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.run(**options)
        except OperatorError as error:
            raise CommandError(visible(str(error)), returncode=EXIT_REFUSED) from error
        except PushDidNotArrive as error:
            raise CommandError(visible(str(error)), returncode=EXIT_UNAVAILABLE) from error
        except (RetryLater, *DATABASE_DOWN) as error:
            reason = one_line(error)
            raise CommandError(f"A part does not answer: {visible(reason)}", returncode=EXIT_UNAVAILABLE) from error

    @abstractmethod
    def run(self, **options: Any) -> None:
        """Call one function and print what it did."""


asked_to_end = SignalEvent()
"""Set with the first signal of `stop_on_signals`: a job that `run_jobs` runs ends after the row in hand."""


def stop_on_signals(stop: SignalEvent) -> None:
    """The first SIGTERM or Ctrl-C asks for an end. After it the default action is back: a second one ends at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        asked_to_end.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def operator() -> str:
    """Who stands behind a command, in the record of what was done: the user of the operating system."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        name = f"uid-{os.getuid()}"
    return f"manage.py:{name}"


def add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="why; kept with who did it and what (the admin's audit)")


def campaign_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no campaign id; `create_campaign` printed it.") from None


def moment(text: str) -> Any:
    """ISO 8601 with an offset."""
    try:
        value = parse_datetime(text)
        if value is not None and not is_naive(value):
            return value.astimezone(UTC)  # PostgreSQL takes no offset of 16 hours or more
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no time with an offset, like 2026-12-01T10:00:00+09:00.")


def whole_number(least: int, most: int | None = None) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number.") from None
        if value < least or (most is not None and value > most):
            upper = f" to {most}" if most is not None else " up"
            raise argparse.ArgumentTypeError(f"{value} is out of range: from {least}{upper}.")
        return value

    return parse
