from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from coupons.errors import GateUnavailable
from coupons.management.command import CouponCommand, stop_on_signals, whole_number
from coupons.recovery.keeper import Keeper
from coupons.runtime.signal_event import SignalEvent


class Command(CouponCommand):
    needs_session = True
    help = (
        "Keep the campaigns healthy until it is stopped: rebuild a stale Redis state, push operators' changes that did "
        "not reach Redis, and publish again pending tickets that have no message on the way. Several keepers may run. "
        "SIGTERM or Ctrl-C ends it after the current step."
    )
    examples = """
  manage.py run_keeper
  manage.py run_keeper --once      (one round; exits 2 when a server does not answer)
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--interval-ms",
            type=whole_number(100, 60_000),
            default=settings.KEEPER_INTERVAL_MS,
            help="pause between two rounds (default %(default)s)",
        )
        parser.add_argument("--once", action="store_true", help="run one round and end")

    def run(self, **options: Any) -> None:
        stop = SignalEvent()
        keeper = Keeper(interval_sec=options["interval_ms"] / 1000, stop=stop)
        if options["once"]:
            if not keeper.round():
                raise GateUnavailable("see the log lines above; the next round continues from there")
            self.stdout.write("Checked all campaigns and made the repairs that were needed.")
            return

        stop_on_signals(stop)
        self.stdout.write(f"keeper: one round every {options['interval_ms']} ms")
        self.stdout.flush()
        keeper.run()
