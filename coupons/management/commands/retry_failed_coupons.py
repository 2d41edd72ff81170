from argparse import ArgumentParser
from typing import Any

from coupons.issuing.retry import retry_due_events
from coupons.management.command import CouponCommand, stop_requested, whole_number
from coupons.management.job_runs import record_run


class Command(CouponCommand):
    needs_session = True
    help = (
        "Retry the failed events that are due: FAIL -> PROCESSING -> SUCCESS, or back to FAIL with the new error. "
        "Crontab runs it every 5 minutes; concurrent runs share the work. The admin shows the last run under "
        "Scheduled jobs. Exits 2 when PostgreSQL or Redis does not answer."
    )
    examples = """
  manage.py retry_failed_coupons
  manage.py retry_failed_coupons --limit 100
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--limit",
            type=whole_number(1),
            default=100_000,
            help="maximum number of events in this run (default %(default)s)",
        )

    def run(self, **options: Any) -> None:
        name, limit = "retry_failed_coupons", options["limit"]
        report = record_run(name, lambda: retry_due_events(limit=limit, actor=name, stop=stop_requested.is_set))
        self.stdout.write(f"Retried: {report}.")
