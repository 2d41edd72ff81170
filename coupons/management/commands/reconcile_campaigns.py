import json
import sys
from argparse import ArgumentParser
from typing import Any

from coupons.errors import OperatorError
from coupons.ledger.reconcile import EXPLANATIONS, HEALS_BY_ITSELF, Ledger, reconcile
from coupons.management.command import CouponCommand, campaign_id
from coupons.models import Campaign


class Command(CouponCommand):
    help = (
        "Check the ledger of campaigns: tickets (Redis) = issued + failed (PostgreSQL) + pending, user by user. "
        "Exits 0 when it closes, 1 when it does not, 2 when it could not look."
    )
    examples = """
  manage.py reconcile_campaigns
  manage.py reconcile_campaigns 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 --json
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", nargs="?", type=campaign_id, help="a campaign's id; default: all of them")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def run(self, **options: Any) -> None:
        chosen = [options["campaign"]] if options["campaign"] else None
        if chosen and not Campaign.objects.filter(pk__in=chosen, epoch__gt=0).exists():
            raise OperatorError(f"No campaign that was ever opened has the id {options['campaign']}.")
        closes = True
        documents = []
        for ledger in reconcile(campaign_ids=chosen):
            closes &= ledger.closes
            documents.append(ledger.document())
            if not options["json"]:
                self._print(ledger)
        if options["json"]:
            self.stdout.write(json.dumps({"closes": closes, "campaigns": documents}, indent=2))
        if not closes:
            sys.exit(1)

    def _print(self, ledger: Ledger) -> None:
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
