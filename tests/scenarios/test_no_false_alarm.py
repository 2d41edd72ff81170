"""The verifier looks while everything moves, and finds nothing wrong."""

from coupons.ledger.reconcile import Reconciliation
from faults.visits import Habits
from tests.support.promises import assert_history_holds
from tests.support.service import Service

LOOKS = 12


def test_under_load_it_gives_no_alarm(service: Service) -> None:
    """Users apply, win, come back and are refused; coupons are issued in batches; two campaigns, one sells out."""
    service.everything()
    campaigns = [service.campaign(20_000), service.campaign(150)]
    crowd = service.crowd(*campaigns, habits=Habits(users_per_sec=120, connections=32))
    crowd.goes_on("before the looking", users=20)

    seen = []
    for _ in range(LOOKS):
        with Reconciliation() as looking:
            for campaign in looking.campaigns:
                ledger = looking.ledger_of(campaign)
                assert ledger.closes, ledger.document()
                assert not ledger.differences, ledger.document()
                seen.append(ledger.tickets)
            assert looking.topic.closes

    assert len(set(seen)) > LOOKS, "it looked at something that moved"
    assert_history_holds(crowd, campaigns=campaigns)
