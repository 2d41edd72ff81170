"""Rows 5, 7, 8: Redis dies, hangs, or its answers are lost. 503, and nobody's place is lost or given twice."""

from coupons.models import FailEventHistory
from coupons.runtime.failpoints import REBUILD_BEGUN
from faults.visits import Habits
from tests.support.matrix import Row
from tests.support.places import (
    assert_no_hole,
    assert_only_promised_or,
    nobody_is_promised_anything,
    places,
    promised_after,
)
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.waiting import wait_until

MANY = Habits(users_per_sec=100)


def test_a_killed_redis_is_rebuilt_with_every_promise(service: Service) -> None:
    """It comes back with its whole file, and nobody is promised anything all the same until the rebuild is through."""
    _, consumer, keeper = service.everything()
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(5, crowd)
    crowd.goes_on("before", users=50)
    service.arm(REBUILD_BEGUN, "stop")

    with row.fault("redis: SIGKILL under load, started again"):
        service.stack("kill", "redis")
        crowd.is_told(503, "unavailable", times=5)
        promised = crowd.promises(campaign.pk)
        service.stack("start", "redis")
        service.wait_for(REBUILD_BEGUN)
        before = places(campaign)
        nobody_is_promised_anything(crowd, while_told="unavailable")
    service.resume(REBUILD_BEGUN)
    row.goes_on(users=50)

    assert before.items() >= promised.items(), "what was promised was on disk"
    assert places(campaign).items() >= before.items(), "the same tickets as before"
    assert_no_hole(campaign)
    assert_history_holds(crowd, campaigns=[campaign])
    assert keeper.output.count("rebuild.done") == 1
    assert_only_promised_or(crowd, "unavailable", "unconfirmed")
    assert not FailEventHistory.objects.exists()
    assert consumer.stop() == 0
    row.write()


def test_a_repeat_after_a_hang_gets_the_same_place(service: Service) -> None:
    """What lay in its sockets is done at SIGCONT, for users who had been told 503 long before.

    Each web process asks for one or a few, who all are new here, and then no more: the others wait for those answers.
    """
    _, consumer, keeper = service.everything()
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=100, returning=0.0))
    row = Row(7, crowd)
    crowd.goes_on("before", users=50)

    with row.fault("redis: SIGSTOP under load, SIGCONT"):
        service.stack("pause", "redis")
        crowd.is_told(503, "unavailable", times=5)
        nobody_is_promised_anything(crowd, while_told="unavailable")
        service.stack("resume", "redis")
    row.goes_on(users=50)

    assert_history_holds(crowd, campaigns=[campaign])
    repeats = promised_after(crowd, "unavailable")
    assert [one for one in repeats.values() if one.status == 200], "they had their places, so nobody was 202 again"
    assert {user: one.sequence for user, one in repeats.items()}.items() <= places(campaign).items()
    assert_no_hole(campaign)
    assert "rebuild." not in keeper.output, "a hang loses nothing, so nothing is rebuilt"
    assert_only_promised_or(crowd, "unavailable", "unconfirmed")
    assert not FailEventHistory.objects.exists()
    assert consumer.stop() == 0
    row.write()


def test_lost_answers_of_redis_give_each_user_one_place(service: Service) -> None:
    """Answers swallowed whole, then cut in the middle: one place a user, however often his script ran."""
    proxy = service.proxy("redis")
    _, _, keeper = service.everything()
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(8, crowd)
    crowd.goes_on("before", users=50)

    with row.fault("redis: its answers are swallowed"):
        proxy.drop_answers()
        crowd.is_told(503, "unavailable", times=5)
        nobody_is_promised_anything(crowd, while_told="unavailable")
        promised = crowd.promises(campaign.pk)
        unheard = {user: sequence for user, sequence in places(campaign).items() if user not in promised}
        proxy.let_pass()
    assert unheard, "places were given of which nobody was told"
    row.goes_on(users=50)
    wait_until(lambda: unheard.keys() <= crowd.promises(campaign.pk).keys(), what="their repeats are answered")
    assert unheard.items() <= crowd.promises(campaign.pk).items(), "each got the place that he had all along"
    unheard_users = {user: one for user, one in promised_after(crowd, "unavailable").items() if user in unheard}
    assert {one.status for one in unheard_users.values()} == {200}

    with row.fault("redis: its answers are cut after 1 byte"):
        proxy.cut_after(1)
        crowd.is_told(503, "unavailable", times=20)
        proxy.let_pass()
    row.goes_on(users=50)

    assert_history_holds(crowd, campaigns=[campaign])
    assert_no_hole(campaign)
    assert "rebuild." not in keeper.output
    assert_only_promised_or(crowd, "unavailable", "unconfirmed")
    row.write()
