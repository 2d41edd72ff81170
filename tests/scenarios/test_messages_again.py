"""Row 28: the topic is produced again while users apply: duplicates, backwards, shuffled. Each ticket counts once."""

import random
from collections.abc import Sequence

from coupons.messaging.log import LoggedMessage
from coupons.models import Campaign, Coupon
from tests.support.matrix import Row
from tests.support.service import Service
from tests.support.topic import pending_holders, read_topic, ticket_holders
from tests.support.waiting import wait_until

Rows = dict[str, tuple[int, str, object]]  # user -> sequence, code, when it was issued


def test_replaying_the_whole_topic_shuffled_changes_nothing(service: Service) -> None:
    """While no consumer runs, so that a message and its copies meet in one batch; and while two read."""
    service.web()
    row = Row.begin(service, 28, users=60)
    with row.fault("the topic produced again, in order, backwards and shuffled, while no consumer runs"):
        copies = produce_again(service, read_topic())
        row.crowd.wait_for_promises("behind the copies", users=30)
    assert len(pending_holders(row.campaign)) >= 90
    service.consumer("--concurrency", "2")
    row.wait_for_promises(users=30)

    before = wait_until(lambda: coupons(row.campaign), what="coupons")
    with row.fault("the same while consumers read"):
        copies += produce_again(service, read_topic())
        row.crowd.wait_for_promises("among the copies", users=30)
    row.wait_for_promises(users=30)

    row.holds()
    after = coupons(row.campaign)
    assert before.items() <= after.items(), "whoever had a coupon has the very same"
    assert {user: sequence for user, (sequence, _, _) in after.items()} == ticket_holders(row.campaign)
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
