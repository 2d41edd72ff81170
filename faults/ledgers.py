"""The product's own ledgers, as the soak and the tests ask for them."""

from collections.abc import Iterable, Iterator
from uuid import UUID

from coupons.reconciliation.differences import Kind
from coupons.reconciliation.ledger import Ledger
from coupons.reconciliation.reconcile import Reconciliation


def reconcile(*, campaign_ids: Iterable[UUID] | None = None) -> Iterator[Ledger]:
    """Yields the ledgers of these campaigns, or of all that were ever opened. Raises as `Reconciliation` does."""
    with Reconciliation(campaign_ids=campaign_ids) as reconciliation:
        for campaign in reconciliation.campaigns:
            yield reconciliation.ledger_of(campaign)


def is_at_rest(ledger: Ledger) -> bool:
    """Whether nothing is pending or has to heal. A gap, which stays for good after a rebuild, does not count."""
    return ledger.pending == 0 and ledger.differences.keys() <= {Kind.GAP}
