"""The base class of all commands: help with examples, and expected errors as exit codes instead of tracebacks."""

import argparse
import getpass
import json
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from types import FrameType
from typing import Any, cast
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive

from coupons.campaigns.lifecycle import CouponTerms
from coupons.errors import DATABASE_DOWN, OperatorError, PushDidNotArrive, RetryLater, one_line
from coupons.models import MAX_VALID_DAYS, Campaign
from coupons.runtime.process import SESSION
from coupons.runtime.signal_event import SignalEvent
from coupons.runtime.text import make_visible

EXIT_REFUSED = 1  # the command was refused, or the answer is "no"
EXIT_UNAVAILABLE = 2  # PostgreSQL, Redis or Kafka did not answer: the outcome is unknown, try again


class _ExamplesFormatter(argparse.RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Keeps the line breaks of the examples, and Django's order of the options."""


class CouponCommand(BaseCommand, ABC):
    """A command parses, calls one function and prints. --help ends with `examples`."""

    examples = ""
    uses_redis = True
    needs_session = False
    """The command relies on what it has set for its sessions of PostgreSQL: a pooler must not stand between."""
    # Only the checks of the settings run. Django's own checks import the URLs, the admin and the API, which no command
    # uses; that would take a third of a consumer's start.
    requires_system_checks = ["coupons"]

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        epilog = f"examples:\n{self.examples.rstrip()}" if self.examples else None
        return super().create_parser(prog_name, subcommand, formatter_class=_ExamplesFormatter, epilog=epilog, **kwargs)

    def handle(self, *args: Any, **options: Any) -> None:
        if self.needs_session:
            self.check(tags=[SESSION], include_deployment_checks=True)
        try:
            if self.uses_redis:
                from coupons.admission.scripts import refuse_cluster  # other commands start faster without it

                refuse_cluster()
            self.run(**options)
        except (OperatorError, ImproperlyConfigured) as error:
            raise CommandError(make_visible(str(error)), returncode=EXIT_REFUSED) from error
        except PushDidNotArrive as error:
            raise CommandError(make_visible(str(error)), returncode=EXIT_UNAVAILABLE) from error
        except (RetryLater, *DATABASE_DOWN) as error:
            text = make_visible(f"A server does not answer: {one_line(error)}")
            raise CommandError(text, returncode=EXIT_UNAVAILABLE) from error

    @abstractmethod
    def run(self, **options: Any) -> None:
        """Calls one function and prints its result."""


class CampaignCommand(CouponCommand):
    act: Callable[..., Campaign]
    done: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("campaign", type=campaign_id, help="the campaign's id")
        add_reason(parser)

    def run(self, **options: Any) -> None:
        campaign = self.act(campaign_id=options["campaign"], actor=operator(), reason=options["reason"])
        self.stdout.write(f"Campaign {campaign.pk} ({make_visible(campaign.name)}) {self.done}.")


stop_requested = SignalEvent()
"""`stop_on_signals` sets it at the first signal, so that a job under `run_jobs` ends after its current row."""


def stop_on_signals(stop: SignalEvent) -> None:
    """Sets `stop` at the first SIGTERM or Ctrl-C, and restores the default action: a second one ends at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        stop_requested.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


@contextmanager
def stopping_at_signals() -> Iterator[None]:
    """Sets `stop_requested` at the first signal, for a job that cron has started. Under `run_jobs` that is done."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    if before[0] is not signal.SIG_DFL:
        yield
        return
    stop_on_signals(stop_requested)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def operator() -> str:
    """Names the operator of a command for the audit: the user of the operating system."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = f"uid-{os.getuid()}"
    return f"manage.py:{name}"


def add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="the reason; the audit keeps it with the operator and the action")


def add_coupon_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--valid-from", type=moment, help="coupons may be redeemed from then on; ISO 8601 with offset")
    parser.add_argument("--valid-until", type=moment, help="coupons expire then; ISO 8601 with offset")
    parser.add_argument(
        "--valid-days",
        type=whole_number(1, MAX_VALID_DAYS),
        help="or so many times 24 hours after each was issued",
    )
    parser.add_argument(
        "--metadata", type=json_object, help="""the shop's own JSON object, for example '{"value": 5000}'"""
    )


def coupon_terms(options: dict[str, Any]) -> CouponTerms:
    """Returns the terms that were given."""
    given = {name: options[name] for name in CouponTerms.__annotations__ if options[name] is not None}
    return cast("CouponTerms", given)


def json_object(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    raise argparse.ArgumentTypeError('it is no JSON object, like {"value": 5000}.')


def campaign_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a campaign id; `create_campaign` prints the id of a new campaign."
        ) from None


def moment(text: str) -> Any:
    """Parses an ISO 8601 time with an offset."""
    try:
        value = parse_datetime(text)
        if value is not None and not is_naive(value):
            return value.astimezone(UTC)  # PostgreSQL refuses an offset of 16 hours or more
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a time with an offset, like 2026-12-01T10:00:00+09:00.")


def whole_number(minimum: int, maximum: int | None = None) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number.") from None
        if value < minimum or (maximum is not None and value > maximum):
            upper = f" to {maximum}" if maximum is not None else " up"
            raise argparse.ArgumentTypeError(f"{value} is out of range: from {minimum}{upper}.")
        return value

    return parse
