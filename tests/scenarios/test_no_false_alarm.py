"""The verifier looks while everything moves, and finds nothing wrong."""

from itertools import pairwise

from coupons.reconciliation.reconcile import Reconciliation
from faults.visits import Habits
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS

LOOKS = 12


def test_under_load_it_gives_no_alarm(service: Service) -> None:
    """Users apply, win, come back and are refused; coupons are issued in batches, held, redeemed and returned; two
    campaigns, one sells out."""
    service.everything(**LONG_TIMEOUTS)
    campaigns = [service.campaign(20_000), service.campaign(150)]
    crowd = service.crowd(*campaigns, habits=Habits(users_per_sec=120, connections=32, shops=4))
    crowd.wait_for_promises("before the looking", users=20)

    seen = []
    for _ in range(LOOKS):
        with Reconciliation() as looking:
            for campaign in looking.campaigns:
                ledger = looking.ledger_of(campaign)
                assert ledger.closes, ledger.document()
                assert not ledger.differences, ledger.document()
                if campaign == campaigns[0]:
                    seen.append(ledger.tickets)
            assert looking.topic.closes
            assert looking.find_orphans().closes
        crowd.wait_for_promises("between two looks", users=1, campaign_id=campaigns[0].pk)

    assert len(seen) == LOOKS
    assert all(earlier < later for earlier, later in pairwise(seen)), "it looked at something that moved"
    verdicts = assert_history_holds(crowd, campaigns=campaigns)
    assert sum(verdict.redeemed for verdict in verdicts.values()) > 20
