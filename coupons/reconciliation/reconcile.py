"""Makes the ledger: compares tickets (Redis), messages (topic), coupons and failed events (PostgreSQL) user by user.

PostgreSQL compares, so the memory of this process does not grow with the campaign. What became of the coupons since is
compared there, too, with their redemptions and events (lives.py).

The service goes on meanwhile, and a healthy service under load raises no alarm, because of the order of reading: first
the read offsets (messaging/read_offsets.py) and the topic, then the tickets, then the pending users, then coupons and
failed events at one moment. A message is a ticket before it is published, it counts as read from the commit of its row
on, and its ticket leaves pending after that commit: so a later source explains all that an earlier one shows. Anything
that may have changed since gets a second look before it counts as a difference (second_look.py).
"""

from collections.abc import Iterable, Sequence
from typing import Self
from uuid import UUID

from coupons.admission import campaign_store
from coupons.issuing.ticket_rows import failed_tickets
from coupons.messaging.topics import partition_lags
from coupons.models import LOADED, Campaign
from coupons.reconciliation.compare import Comparison
from coupons.reconciliation.ledger import Ledger, OrphanLedger, TopicLedger
from coupons.reconciliation.lives import compare_lives, find_orphans, read_lives
from coupons.reconciliation.sources import TopicReader, read_redis
from coupons.reconciliation.temporary_tables import TemporaryTables


class Reconciliation:
    """Makes the ledgers of these campaigns, or of all that are loaded; reads the topic once for all of them.

    Raises RetryLater (a part is down, or a state is not current), TemporaryTablesRefused and database errors. An error
    is no verdict: the ledger was not checked.
    """

    def __init__(self, *, campaign_ids: Iterable[UUID] | None = None) -> None:
        self._lags = partition_lags()
        # After the offsets: each message below them was published after its campaign was created.
        campaigns = Campaign.objects.filter(LOADED).order_by("created_at")
        if campaign_ids is not None:
            campaigns = campaigns.filter(pk__in=list(campaign_ids))
        self.campaigns: Sequence[Campaign] = list(campaigns)
        unloaded = Campaign.objects.filter(unloaded_at__isnull=False).values_list("pk", flat=True)
        self._topic = TopicReader(self._lags, self.campaigns, check_others=campaign_ids is None, unloaded=set(unloaded))
        self._tables = TemporaryTables()

    def __enter__(self) -> Self:
        try:
            self._topic.read(self._tables)
        except BaseException:
            self._tables.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._tables.close()

    @property
    def topic(self) -> TopicLedger:
        return self._topic.ledger

    def find_orphans(self) -> OrphanLedger:
        """Names the redemptions and events whose coupon is not there."""
        return find_orphans(self._tables)

    def rows_of(self, campaign: Campaign) -> Ledger:
        """Returns the ledger of a draft, which has no tickets, or of an unloaded campaign, whose tickets are rows."""
        ledger = Ledger(campaign.pk, campaign.name, campaign.quantity, unloaded=campaign.unloaded_at is not None)
        ledger.issued = ledger.coupons = campaign.issued_count
        ledger.failed = sum(1 for _ in failed_tickets(campaign.pk))
        ledger.tickets = ledger.issued + ledger.failed
        self._tables.run("TRUNCATE life")
        read_lives(self._tables, campaign.pk, ledger)
        compare_lives(self._tables, ledger)
        return ledger

    def ledger_of(self, campaign: Campaign) -> Ledger:
        """Raises StateStale also when a rebuild ran meanwhile: the caller repeats."""
        # Both raise unless the state is current.
        before = campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch)
        read_redis(campaign.pk, self._tables)
        comparison = Comparison(campaign, self._tables, lags=self._lags, before=before)
        if (unknown := self._topic.unknown_keys[campaign.pk]).count:
            comparison.ledger.differences[unknown.kind] = unknown
        comparison.compare_entries()
        comparison.compare_counts(campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch))
        return comparison.ledger
