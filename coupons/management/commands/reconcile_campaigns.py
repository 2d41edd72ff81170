import json
import sys
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from coupons.admission.scripts import is_refusal
from coupons.errors import GateUnavailable, StateStale
from coupons.management.command import EXIT_REFUSED, EXIT_UNAVAILABLE, CouponCommand, campaign_id
from coupons.models import LOADED, Campaign
from coupons.reconciliation.differences import EXPLANATIONS, UNRECORDED, healed_by
from coupons.reconciliation.ledger import Ledger, OrphanLedger, TopicLedger
from coupons.reconciliation.reconcile import Reconciliation
from coupons.reconciliation.temporary_tables import TemporaryTablesRefused
from coupons.runtime.text import make_visible

UNLOADED = ", by the rows of PostgreSQL alone: it is unloaded, and compared with nothing"


class Command(CouponCommand):
    needs_session = True
    help = (
        "Check the ledger of campaigns: compare tickets (Redis), messages (topic), coupons and failed events "
        "(PostgreSQL) user by user, and coupons with their redemptions and events. Lists every difference with its "
        "meaning, and either when it heals by itself or the command that an operator types against it. Exits 0 when "
        "the ledger closes, 1 when it does not, 2 when it cannot be checked (a server does not answer, a campaign's "
        "state in Redis is stale, the campaign does not exist). Changes nothing. PostgreSQL compares in temporary "
        "tables: about 400 bytes of its disk per ticket, until the end."
    )
    examples = """
  manage.py reconcile_campaigns
  manage.py reconcile_campaigns 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10 --json
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", nargs="?", type=campaign_id, help="a campaign's id; default: all of them")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def run(self, **options: Any) -> None:
        chosen = options["campaign"]
        not_loaded = self._not_loaded(chosen)
        ledgers: list[Ledger] = []
        unseen: list[str] = []
        try:
            with Reconciliation(campaign_ids=[chosen] if chosen else None) as looking:
                for campaign in looking.campaigns:
                    try:
                        ledgers.append(looking.ledger_of(campaign))
                    except (StateStale, GateUnavailable) as error:
                        if not isinstance(error, StateStale) and not is_refusal(error):
                            raise
                        unseen.append(str(error))
                ledgers += map(looking.rows_of, not_loaded)
                # Neither is of one campaign.
                topic = None if chosen else looking.topic
                orphans = None if chosen else looking.find_orphans()
        except TemporaryTablesRefused as error:
            raise CommandError(str(error), returncode=EXIT_UNAVAILABLE) from error
        closes = all(each.closes for each in (*ledgers, topic, orphans) if each is not None)
        if options["json"]:
            self._print_json(ledgers, topic, orphans, closes=closes, unseen=unseen)
        else:
            self._print(ledgers, topic, orphans)
        for reason in unseen:
            self.stderr.write(f"Could not check: {reason}. The keeper or `manage.py rebuild_admission` rebuilds it.")
        if not closes:
            sys.exit(EXIT_REFUSED)
        if unseen:
            sys.exit(EXIT_UNAVAILABLE)

    def _not_loaded(self, chosen: UUID | None) -> list[Campaign]:
        campaigns = Campaign.objects.order_by("created_at")
        if chosen:
            campaigns = campaigns.filter(pk=chosen)
            if not campaigns.exists():
                raise CommandError(f"There is no campaign {chosen}.", returncode=EXIT_UNAVAILABLE)
        return list(campaigns.exclude(LOADED))

    def _print_json(
        self,
        ledgers: list[Ledger],
        topic: TopicLedger | None,
        orphans: OrphanLedger | None,
        *,
        closes: bool,
        unseen: list[str],
    ) -> None:
        document = {
            "closes": closes and not unseen,
            "campaigns": [ledger.document() for ledger in ledgers],
            "topic": topic.document() if topic else None,
            "orphans": orphans.document() if orphans else None,
            "could_not_look": unseen,
        }
        self.stdout.write(json.dumps(document, indent=2))

    def _print(self, ledgers: list[Ledger], topic: TopicLedger | None, orphans: OrphanLedger | None) -> None:
        for ledger in ledgers:
            verdict = "closes" if ledger.closes else "DOES NOT CLOSE"
            self.stdout.write(
                f"{ledger.campaign_id} {make_visible(ledger.name)}: "
                f"tickets {ledger.tickets} = issued {ledger.issued} + failed {ledger.failed} + "
                f"pending {ledger.pending} (quantity {ledger.quantity}): {verdict}"
                f"{UNLOADED if ledger.unloaded else ''}"
            )
            statuses = " + ".join(f"{status} {count}" for status, count in ledger.statuses.items())
            self.stdout.write(f"  issued {ledger.issued} = {statuses}")
            self._print_differences(ledger)
        if topic is not None and not topic.closes:
            self.stdout.write(f"topic: {topic.unrecorded.count} {UNRECORDED}")
            self.stdout.write(f"    {' '.join(topic.unrecorded.examples)}")
        if orphans is not None and not orphans.closes:
            self.stdout.write("of no campaign:")
            self._print_differences(orphans)

    def _print_differences(self, ledger: Ledger | OrphanLedger) -> None:
        for found in ledger.differences.values():
            self.stdout.write(f"  {found.kind} x {found.count}: {EXPLANATIONS[found.kind].meaning}.")
            for example in found.examples:
                self.stdout.write(f"    {make_visible(example)}")
            heals = healed_by(found.kind)
            self.stdout.write(f"  -> heals by itself: {heals}." if heals else f"  -> {ledger.command(found.kind)}")
