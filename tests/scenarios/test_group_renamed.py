"""The consumers' group gets another name while the former group still reads (docs/runbook.md, "Rename the group")."""

from coupons.models import FailEventHistory
from tests.support.matrix import MANY
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.topic import unread
from tests.support.waiting import wait_until


def test_two_groups_at_once_issue_each_ticket_once(service: Service) -> None:
    """Both read every message, and share one record of what was read: the slower of the two leads."""
    service.web(**LONG_TIMEOUTS)
    former = service.consumer("--solo")
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    service.produce(*(b"junk" for _ in range(30)))
    crowd.wait_for_promises("before", users=60)
    wait_until(lambda: FailEventHistory.objects.count() == 30, what="the junk is recorded")

    renamed = service.consumer(
        "--solo", COUPON_CONSUMER_GROUP=f"{service.topic}_renamed", COUPON_CONSUMER_POISON_LIMIT="25"
    )
    crowd.wait_for_promises("while two groups read", users=60)
    assert former.stop() == 0
    crowd.wait_for_promises("after the former group", users=30)
    wait_until(lambda: unread() < 20, within_sec=40, what="the new group has caught up")

    assert_history_holds(crowd, campaigns=[campaign])
    assert FailEventHistory.objects.count() == 30, "what was recorded is not recorded again"
    assert renamed.exit_code is None, "nor counted as poison again"
