from typing import Any

from coupons.management.command import CouponCommand, stop_requested, stopping_at_signals
from coupons.management.job_runs import record_run
from coupons.redemption.lapsed_holds import tidy_lapsed_holds


class Command(CouponCommand):
    uses_redis = False
    help = (
        "Write down that holds of coupons whose time is over have ended, so that lists are true; they end by the clock "
        "without it. Crontab runs it every 5 minutes; concurrent runs share the work. SIGTERM or Ctrl-C ends it after "
        "the hold in hand. The admin shows the last run under Scheduled jobs. Exits 1 when a hold could not be ended, "
        "2 when PostgreSQL does not answer."
    )
    examples = """
  manage.py tidy_holds
"""

    def run(self, **options: Any) -> None:
        name = "tidy_holds"
        with stopping_at_signals():
            result = record_run(name, lambda: f"{tidy_lapsed_holds(actor=name, stop=stop_requested.is_set)} ended")
        self.stdout.write(f"Holds: {result}.")
