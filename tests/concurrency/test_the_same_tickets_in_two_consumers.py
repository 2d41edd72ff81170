"""A ticket's message may come twice, on two partitions: two consumers then write the same rows at the same time."""

import random
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from consumers.coupon_create import save_coupons
from consumers.registry import Received
from coupons.messaging.positions import Position
from coupons.models import Coupon, FailEventHistory
from tests.support.service import Service
from tests.support.tickets import admit, issued_users, received, were_read

USERS = [f"u{number}" for number in range(60)]


ROUNDS = 8  # writing in the batches' own order deadlocks in about every third round


def test_two_consumers_writing_the_same_tickets_make_one_coupon_each(service: Service) -> None:
    """In another order each, over three campaigns, in batches that overlap: no deadlock, no failed event."""
    shuffle = random.Random(20261124).shuffle
    for _ in range(ROUNDS):
        campaigns = [service.campaign(len(USERS)) for _ in range(3)]
        tickets = [
            received(campaign, user, sequence, offset=sequence)
            for campaign in campaigns
            for user, sequence in zip(USERS, admit(campaign, *USERS), strict=True)
        ]
        orders = [[ticket._replace(partition=partition) for ticket in tickets] for partition in range(2)]
        for order in orders:
            shuffle(order)
            were_read(Position(order[0].partition, 1_000))
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(consume_in_batches, orders))

        assert sum(done) == len(tickets)
        assert all(issued_users(campaign) == dict(zip(USERS, range(1, 61), strict=True)) for campaign in campaigns)
    assert Coupon.objects.count() == ROUNDS * 3 * len(USERS)
    assert not FailEventHistory.objects.exists()


def consume_in_batches(messages: list[Received]) -> int:
    """How many coupons were written; a connection of this thread's own."""
    try:
        return sum(save_coupons(messages[start : start + 45]).done for start in range(0, len(messages), 45))
    finally:
        connection.close()
