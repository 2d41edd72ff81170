from argparse import ArgumentParser
from typing import Any

from coupons.campaigns.lifecycle import create_campaign, open_campaign
from coupons.management.command import (
    CouponCommand,
    add_coupon_terms,
    add_reason,
    coupon_terms,
    moment,
    operator,
    whole_number,
)
from coupons.models import MAX_QUANTITY


class Command(CouponCommand):
    help = "Create a campaign; prints its id (a UUID) and nothing else on standard output."
    examples = """
  manage.py create_campaign --name "Winter" --quantity 100 --open
  manage.py create_campaign --name "Ten sharp" --quantity 1000000 --opens-at 2026-12-01T10:00:00+09:00 --open
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", required=True, help="the name that operators see")
        parser.add_argument(
            "--quantity",
            required=True,
            type=whole_number(1, MAX_QUANTITY),
            help=f"number of coupons, 1 to {MAX_QUANTITY}",
        )
        parser.add_argument("--opens-at", type=moment, help="ISO 8601 with offset; default: now")
        parser.add_argument("--closes-at", type=moment, help="ISO 8601 with offset; default: never")
        parser.add_argument("--open", action="store_true", help="open the campaign at once instead of leaving a draft")
        add_coupon_terms(parser)
        add_reason(parser)

    def run(self, **options: Any) -> None:
        campaign = create_campaign(
            name=options["name"],
            quantity=options["quantity"],
            opens_at=options["opens_at"],
            closes_at=options["closes_at"],
            **coupon_terms(options),
            actor=operator(),
            reason=options["reason"],
        )
        self.stdout.write(str(campaign.pk))
        if options["open"]:
            open_campaign(campaign_id=campaign.pk, actor=operator(), reason=options["reason"])
