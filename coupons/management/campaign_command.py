"""The base class of the commands that open, pause, resume and close a campaign."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from coupons.management.command import CouponCommand, add_reason, campaign_id, operator
from coupons.models import Campaign
from coupons.runtime.text import make_visible


class CampaignCommand(CouponCommand):
    act: Callable[..., Campaign]
    done: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", type=campaign_id, help="the campaign's id")
        add_reason(parser)

    def run(self, **options: Any) -> None:
        campaign = self.act(campaign_id=options["campaign"], actor=operator(), reason=options["reason"])
        self.stdout.write(f"Campaign {campaign.pk} ({make_visible(campaign.name)}) {self.done}.")
