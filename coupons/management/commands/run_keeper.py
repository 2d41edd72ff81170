from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from coupons.errors import GateUnavailable
from coupons.management.command import CouponCommand, stop_on_signals, whole_number
from coupons.recovery.keeper import Keeper
from coupons.runtime.signal_event import SignalEvent


class Command(CouponCommand):
    help = (
        "Look after the campaigns for ever: rebuild a Redis state that is not current, push operators' changes that "
        "did not arrive, publish again what is pending and not on its way. Several keepers may run. SIGTERM or Ctrl-C "
        "ends it after the step in hand."
    )
    examples = """
  manage.py run_keeper
  manage.py run_keeper --once      (one look; exits 2 when a part does not answer)
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--interval-ms",
            type=whole_number(100, 60_000),
            default=settings.KEEPER_INTERVAL_MS,
            help="between two looks (default %(default)s)",
        )
        parser.add_argument("--once", action="store_true", help="look once and end")

    def run(self, **options: Any) -> None:
        stop = SignalEvent()
        keeper = Keeper(interval_sec=options["interval_ms"] / 1000, stop=stop)
        if options["once"]:
            if not keeper.round():
                raise GateUnavailable("see the log lines above; the next look goes on from there")
            self.stdout.write("Looked at all campaigns; everything that needed care got it.")
            return

        stop_on_signals(stop)
        self.stdout.write(f"keeper: looks every {options['interval_ms']} ms")
        self.stdout.flush()
        keeper.run()
