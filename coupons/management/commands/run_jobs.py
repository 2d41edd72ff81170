from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from coupons.management.command import CouponCommand, stop_on_signals
from coupons.management.scheduler import Scheduler
from coupons.runtime.signal_event import SignalEvent


class Command(CouponCommand):
    uses_redis = False
    help = (
        "Run django-crontab's CRONJOBS in the foreground, where no cron daemon runs (containers, `make run`). "
        "SIGTERM or Ctrl-C ends it after the current job."
    )
    examples = """
  manage.py run_jobs
  manage.py run_jobs --once       (each job once, now)
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="run each job once, now, and end")

    def run(self, **options: Any) -> None:
        stop = SignalEvent()
        scheduler = Scheduler(settings.CRONJOBS, stop=stop)
        if options["once"]:
            scheduler.run_all_once()
            return

        stop_on_signals(stop)
        scheduler.run()
