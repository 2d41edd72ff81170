import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from coupons.errors import StateStale
from coupons.ledger.reconcile import EXPLANATIONS, HEALS_BY_ITSELF, Ledger, reconcile_campaign
from coupons.management.command import EXIT_REFUSED, EXIT_UNAVAILABLE, CouponCommand, campaign_id
from coupons.models import Campaign


class Command(CouponCommand):
    help = (
        "Check the ledger of campaigns: tickets (Redis) = issued + failed (PostgreSQL) + pending, user by user. "
        "Exits 0 when it closes, 1 when it does not, 2 when it could not look (a part does not answer, a campaign's "
        "state in Redis is not current, there is no such campaign)."
    )
    examples = """
  manage.py reconcile_campaigns
  manage.py reconcile_campaigns 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 --json
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", nargs="?", type=campaign_id, help="a campaign's id; default: all of them")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def run(self, **options: Any) -> None:
        campaigns = Campaign.objects.order_by("created_at")
        if options["campaign"]:
            campaigns = campaigns.filter(pk=options["campaign"])
            if not campaigns.exists():
                raise CommandError(f"There is no campaign {options['campaign']}.", returncode=EXIT_UNAVAILABLE)
        ledgers: list[Ledger] = []
        unseen: list[str] = []
        for campaign in campaigns:
            try:
                ledgers.append(reconcile_campaign(campaign))
            except StateStale as error:
                unseen.append(str(error))
            else:
                self._print(ledgers[-1], as_json=options["json"])
        closes = all(ledger.closes for ledger in ledgers)
        if options["json"]:
            documents = [ledger.document() for ledger in ledgers]
            document = {"closes": closes and not unseen, "campaigns": documents, "could_not_look": unseen}
            self.stdout.write(json.dumps(document, indent=2))
        for reason in unseen:
            self.stderr.write(f"Could not look: {reason}. The keeper mends it, or `manage.py rebuild_admission`.")
        if not closes:
            sys.exit(EXIT_REFUSED)
        if unseen:
            sys.exit(EXIT_UNAVAILABLE)

    def _print(self, ledger: Ledger, *, as_json: bool) -> None:
        if as_json:
            return
        verdict = "closes" if ledger.closes else "DOES NOT CLOSE"
        self.stdout.write(
            f"{ledger.campaign_id} {ledger.name}: tickets {ledger.tickets} = issued {ledger.issued} + failed "
            f"{ledger.failed} + pending {ledger.pending} (quantity {ledger.quantity}): {verdict}"
        )
        for found in ledger.differences.values():
            heals = " (heals by itself)" if found.kind in HEALS_BY_ITSELF else ""
            self.stdout.write(f"  {found.kind} x {found.count}{heals}: {EXPLANATIONS[found.kind]}")
            for example in found.examples:
                self.stdout.write(f"    {example}")
