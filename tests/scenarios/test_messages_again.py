"""Row 28: the topic is produced again while users apply: duplicates, backwards, shuffled. Each ticket counts once."""

import random
from collections.abc import Sequence

from coupons.messaging.log import LoggedMessage
from coupons.models import Campaign, Coupon, FailEventHistory
from faults.visits import Habits
from tests.support.matrix import Row
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.topic import pending_holders, read_topic, ticket_holders
from tests.support.waiting import wait_until

Rows = dict[str, tuple[int, str, object]]  # user -> sequence, code, when it was issued


def test_replaying_the_whole_topic_shuffled_changes_nothing(service: Service) -> None:
    """While no consumer runs, so that a message and its copies meet in one batch; and while two read."""
    service.web()
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=100))
    row = Row(28, crowd)
    crowd.goes_on("before", users=60)
    with row.fault("the topic produced again, in order, backwards and shuffled, while no consumer runs"):
        copies = produce_again(service, read_topic())
        crowd.goes_on("behind the copies", users=30)
    assert len(pending_holders(campaign)) >= 90
    service.consumer("--concurrency", "2")
    row.goes_on(users=30)

    before = wait_until(lambda: coupons(campaign), what="coupons")
    with row.fault("the same while consumers read"):
        copies += produce_again(service, read_topic())
        crowd.goes_on("among the copies", users=30)
    row.goes_on(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    after = coupons(campaign)
    assert before.items() <= after.items(), "whoever had a coupon has the very same"
    assert {user: sequence for user, (sequence, _, _) in after.items()} == ticket_holders(campaign)
    assert not FailEventHistory.objects.exists()
    assert len(read_topic()) >= len(after) + copies
    row.write()


def produce_again(service: Service, messages: Sequence[LoggedMessage]) -> int:
    """Three copies of each; one key each, so most of them lie in another partition than the first one."""
    payloads = [message.payload for message in messages]
    shuffled = random.Random(28).sample(payloads, len(payloads))
    for key, copies in {"in order": payloads, "backwards": payloads[::-1], "shuffled": shuffled}.items():
        service.produce(*copies, key=key)
    return 3 * len(payloads)


def coupons(campaign: Campaign) -> Rows:
    rows = Coupon.objects.filter(campaign=campaign).values_list("user_id", "sequence", "code", "issued_at")
    return {user: (sequence, code, issued_at) for user, sequence, code, issued_at in rows}
