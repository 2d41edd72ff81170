"""The ledger: tickets (Redis), messages (topic), coupons and failed events (PostgreSQL), user by user, and each
difference named. PostgreSQL compares, so the memory that this needs does not grow with the campaign.

Nothing stands still while it looks, and a healthy service under load gives no alarm. That rests on the order of
reading: first what was read (messaging/read_offsets.py) and what the topic holds, then the tickets, then who is
pending, then coupons and failed events of one moment. A message was a ticket before, it counts as read from the commit
of its row on, and a ticket leaves pending after that: so each thing that is read has its reason in what is read later.
What may have come since is looked at once more before it is called a difference (second_look.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Self
from uuid import UUID

from coupons.admission import campaign_store
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign
from coupons.reconciliation.compare import Comparison
from coupons.reconciliation.differences import Ledger, TopicLedger
from coupons.reconciliation.sources import TopicReader, read_redis
from coupons.reconciliation.temporary_tables import TemporaryTables


def reconcile(*, campaign_ids: Iterable[UUID] | None = None) -> Iterator[Ledger]:
    """The ledgers of all loaded campaigns, or of these. Raises RetryLater (a part is down, or a state is not current),
    TemporaryTablesRefused and database errors: then nobody could look, which is no verdict."""
    with Reconciliation(campaign_ids=campaign_ids) as looking:
        for campaign in looking.campaigns:
            yield looking.ledger_of(campaign)


def reconcile_campaign(campaign: Campaign) -> Ledger:
    """The ledger of one campaign; one that was never opened holds nothing, and closes. Raises as `reconcile` does."""
    with Reconciliation(campaign_ids=[campaign.pk]) as looking:
        for loaded in looking.campaigns:
            return looking.ledger_of(loaded)
    return Ledger(campaign.pk, campaign.name, campaign.quantity)


class Reconciliation:
    """A context in which the topic is read once for all campaigns. Raises as `reconcile` does."""

    def __init__(self, *, campaign_ids: Iterable[UUID] | None = None) -> None:
        self._lags = partition_lags()
        # After the offsets: whoever wrote what was read had a campaign by then.
        campaigns = Campaign.objects.filter(epoch__gt=0).order_by("created_at")
        if campaign_ids is not None:
            campaigns = campaigns.filter(pk__in=list(campaign_ids))
        self.campaigns: Sequence[Campaign] = list(campaigns)
        self._topic = TopicReader(self._lags, self.campaigns, check_others=campaign_ids is None)
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

    def ledger_of(self, campaign: Campaign) -> Ledger:
        """Raises StateStale also when a rebuild came while it looked: look again."""
        # Both raise unless the state is current.
        before = campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch)
        read_redis(campaign.pk, self._tables)
        comparison = Comparison(campaign, self._tables, lags=self._lags, before=before)
        if (unknown := self._topic.unknown_keys[campaign.pk]).count:
            comparison.ledger.differences[unknown.kind] = unknown
        comparison.compare_entries()
        comparison.compare_counts(campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch))
        return comparison.ledger
