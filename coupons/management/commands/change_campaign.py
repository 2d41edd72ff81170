from argparse import ArgumentParser
from typing import Any, cast

from coupons.campaigns.lifecycle import CampaignChanges, CouponTerms, change_campaign
from coupons.errors import OperatorError
from coupons.management.command import (
    CouponCommand,
    add_coupon_terms,
    add_reason,
    campaign_id,
    coupon_terms,
    moment,
    operator,
    whole_number,
)
from coupons.models import MAX_QUANTITY
from coupons.runtime.text import make_visible


class Command(CouponCommand):
    help = (
        "Change a campaign's quantity, window or name, or how long its coupons are good. Either all changes are made "
        "or none. The quantity cannot go below the number of admitted users; once a campaign has opened, its coupons "
        "can only become good for longer."
    )
    examples = """
  manage.py change_campaign 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 --quantity 200
  manage.py change_campaign 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 --closes-at 2026-12-24T00:00:00+09:00
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", type=campaign_id, help="the campaign's id")
        parser.add_argument("--name", help="the name that operators see")
        parser.add_argument("--quantity", type=whole_number(1, MAX_QUANTITY), help=f"1 to {MAX_QUANTITY}")
        parser.add_argument("--opens-at", type=moment, help="ISO 8601 with offset")
        parser.add_argument("--closes-at", type=moment, help="ISO 8601 with offset")
        add_coupon_terms(parser)
        add_reason(parser)

    def run(self, **options: Any) -> None:
        fields = ("name", "quantity", "opens_at", "closes_at")
        changes = {name: options[name] for name in fields if options[name] is not None} | coupon_terms(options)
        if not changes:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in (*fields, *CouponTerms.__annotations__))
            raise OperatorError(f"Nothing to change: give at least one of {names}.")
        campaign = change_campaign(
            campaign_id=options["campaign"],
            changes=cast("CampaignChanges", changes),
            actor=operator(),
            reason=options["reason"],
        )
        texts = ", ".join(f"{name} {value}" for name, value in changes.items())
        self.stdout.write(make_visible(f"Campaign {campaign.pk} ({campaign.name}) changed: {texts}."))
