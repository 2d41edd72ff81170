from argparse import ArgumentParser
from typing import Any

from coupons.errors import OperatorError
from coupons.management.command import CouponCommand, campaign_id
from coupons.recovery.relay import relay_pending


class Command(CouponCommand):
    help = (
        "Publish again the pending tickets that have no message on the way to the consumer. The keeper does the same "
        "by itself. Messages that wait in the topic are left alone. Exits 1 when another relay is running, 2 when a "
        "server does not answer."
    )
    examples = """
  manage.py relay_pending_coupons
  manage.py relay_pending_coupons 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", nargs="*", type=campaign_id, help="campaign ids; default: all")

    def run(self, **options: Any) -> None:
        report = relay_pending(campaign_ids=options["campaign"] or None)
        if report is None:
            raise OperatorError("Another relay is running (most likely the keeper's); nothing was done.")
        self.stdout.write(f"Relayed: {report}.")
