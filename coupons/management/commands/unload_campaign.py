from argparse import ArgumentParser
from typing import Any

from coupons.errors import OperatorError
from coupons.management.command import CouponCommand, add_reason, campaign_id, operator, whole_number
from coupons.reconciliation.unload import closed_for_days, unload_campaigns
from coupons.runtime.text import make_visible


class Command(CouponCommand):
    help = (
        "Take closed campaigns out of Redis for good, which gives back their memory and shortens a rebuild. Refuses a "
        "campaign that is not closed, whose ledger does not close, or that has pending tickets or failed events that "
        "wait. From then on PostgreSQL alone has its tickets, and answers for them; every application is answered "
        "`closed`. Exits 1 when a campaign was refused; the others are unloaded."
    )
    examples = """
  manage.py unload_campaign 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 --reason "over since March"
  manage.py unload_campaign --older-than 30      (all that were closed 30 days ago or earlier)
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", nargs="*", type=campaign_id, help="campaign ids")
        parser.add_argument(
            "--older-than",
            type=whole_number(0, 36_500),
            metavar="DAYS",
            help="all campaigns that were closed so many days ago or earlier, instead of ids",
        )
        add_reason(parser)

    def run(self, **options: Any) -> None:
        ids, days = options["campaign"], options["older_than"]
        if bool(ids) == (days is not None):
            raise OperatorError("Name campaigns, or say how long they must have been closed: --older-than DAYS.")
        if not ids and not (ids := closed_for_days(days)):
            self.stdout.write(f"No campaign that Redis has was closed {days} days ago or earlier.")
            return
        report = unload_campaigns(campaign_ids=ids, actor=operator(), reason=options["reason"])
        for campaign in report.unloaded:
            self.stdout.write(f"Campaign {campaign.pk} ({make_visible(campaign.name)}) is unloaded.")
        if report.refused:
            raise OperatorError("\n".join(f"Campaign {pk} stays loaded: {why}" for pk, why in report.refused.items()))
