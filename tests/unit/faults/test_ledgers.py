"""When a ledger is at rest: what the soak and the scenarios wait for."""

from uuid import uuid4

import pytest

from coupons.reconciliation.differences import Kind
from coupons.reconciliation.ledger import Ledger
from faults.ledgers import is_at_rest


@pytest.mark.parametrize(
    ("pending", "kinds", "quiet"),
    [(0, [], True), (1, [], False), (0, [Kind.GAP], True), (0, [Kind.GAP, Kind.STALE_PENDING], False)],
)
def test_a_gap_is_nothing_to_wait_for(pending: int, kinds: list[Kind], quiet: bool) -> None:
    """The soak with seed n5 waited two minutes for one that a rebuild had left for good, and called it unexplained."""
    ledger = Ledger(campaign_id=uuid4(), name="soak", quantity=10, pending=pending)
    for kind in kinds:
        ledger.found(kind, "example")

    assert is_at_rest(ledger) == quiet
