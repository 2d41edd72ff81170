"""Rows 5, 7, 8: Redis dies, hangs, or its answers are lost. 503, and nobody's place is lost or given twice."""

import dataclasses

from coupons.runtime.failpoints import REBUILD_BEGUN
from tests.support.held_tickets import (
    assert_no_hole,
    assert_only_promised_or,
    held_tickets,
    nobody_is_promised_anything,
    promised_after,
)
from tests.support.matrix import MANY, Row
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_a_killed_redis_is_rebuilt_with_every_promise(service: Service) -> None:
    """It comes back with its whole file, and nobody is promised anything all the same until the rebuild is through."""
    _, consumer, keeper = service.everything()
    row = Row.begin(service, 5, users=50)
    service.arm(REBUILD_BEGUN, "stop")

    with row.fault("redis: SIGKILL under load, started again"):
        service.stack("kill", "redis")
        row.crowd.wait_for_answers(503, "unavailable", times=5)
        promised = row.crowd.promises(row.campaign.pk)
        service.stack("start", "redis")
        service.wait_for(REBUILD_BEGUN)
        before = held_tickets(row.campaign)
        nobody_is_promised_anything(row.crowd, while_told="unavailable")
    service.resume(REBUILD_BEGUN)
    row.wait_for_promises(users=50)

    assert before.items() >= promised.items(), "what was promised was on disk"
    assert held_tickets(row.campaign).items() >= before.items(), "the same tickets as before"
    assert_nothing_lost(row)
    assert keeper.output.count("rebuild.done") == 1
    assert consumer.stop() == 0
    row.write()


def test_a_repeat_after_a_hang_gets_the_same_place(service: Service) -> None:
    """What lay in its sockets is done at SIGCONT, for users who had been told 503 long before.

    Each web process asks for one or a few, who all are new here, and then no more: the others wait for those answers.
    """
    _, consumer, keeper = service.everything()
    row = Row.begin(service, 7, users=50, habits=dataclasses.replace(MANY, repeat_share=0.0))

    with row.fault("redis: SIGSTOP under load, SIGCONT"):
        service.stack("pause", "redis")
        nobody_is_promised_anything(row.crowd, while_told="unavailable")
        service.stack("resume", "redis")
    row.wait_for_promises(users=50)

    assert_nothing_lost(row)
    repeats = promised_after(row.crowd, "unavailable")
    assert [one for one in repeats.values() if one.status == 200], "they had their places, so nobody was 202 again"
    assert {user: one.sequence for user, one in repeats.items()}.items() <= held_tickets(row.campaign).items()
    assert "rebuild." not in keeper.output, "a hang loses nothing, so nothing is rebuilt"
    assert consumer.stop() == 0
    row.write()


def test_lost_answers_of_redis_give_each_user_one_place(service: Service) -> None:
    """Answers swallowed whole, then cut in the middle, however often the script ran for one user."""
    proxy = service.proxy("redis")
    _, _, keeper = service.everything()
    row = Row.begin(service, 8, users=50)
    crowd, campaign = row.crowd, row.campaign

    with row.fault("redis: its answers are swallowed"):
        proxy.drop_answers()
        nobody_is_promised_anything(crowd, while_told="unavailable")
        promised = crowd.promises(campaign.pk)
        unheard = {user: sequence for user, sequence in held_tickets(campaign).items() if user not in promised}
        proxy.let_pass()
    assert unheard, "places were given of which nobody was told"
    row.wait_for_promises(users=50)
    wait_until(lambda: unheard.keys() <= crowd.promises(campaign.pk).keys(), what="their repeats are answered")
    assert unheard.items() <= crowd.promises(campaign.pk).items(), "each got the place that he had all along"
    unheard_users = {user: one for user, one in promised_after(crowd, "unavailable").items() if user in unheard}
    assert {one.status for one in unheard_users.values()} == {200}

    with row.fault("redis: its answers are cut after 1 byte"):
        proxy.cut_after(1)
        crowd.wait_for_answers(503, "unavailable", times=20)
        proxy.let_pass()
    row.wait_for_promises(users=50)

    assert_nothing_lost(row)
    assert "rebuild." not in keeper.output
    row.write()


def assert_nothing_lost(row: Row) -> None:
    row.holds()
    assert_no_hole(row.campaign)
    assert_only_promised_or(row.crowd, "unavailable", "unconfirmed")
