"""Redis loses or rewinds what it knows, or does not answer: 503, mended by the keeper, nothing lost, nobody beyond."""

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.models import Coupon
from faults.visits import Habits
from tests.support.promises import apply_all, assert_history_holds, assert_kept, issued
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_redis_hangs_restarts_and_is_flushed_under_traffic(service: Service) -> None:
    """After each fault users are promised again; at the end every promise is kept and nobody is beyond the quantity."""
    _, consumer, keeper = service.everything()
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=100))
    crowd.goes_on("after the start", users=50)

    with crowd.history.during("redis hangs"):
        service.stack("pause", "redis")
        crowd.is_told(503, "unavailable", times=5)
        service.stack("resume", "redis")
    crowd.goes_on("after the hang", users=50)
    assert "mend.done" not in keeper.output, "a hang loses nothing, so nothing is mended"

    with crowd.history.during("redis restarts"):
        service.stack("kill", "redis")
        service.stack("start", "redis")
        keeper.says("mend.done")
    crowd.goes_on("after the restart", users=50)
    assert keeper.output.count("mend.done") == 1

    with crowd.history.during("redis is flushed"):
        admission_redis().flushall()
        wait_until(lambda: keeper.output.count("mend.done") == 2, within_sec=40)
    crowd.goes_on("after the flush", users=50)

    assert_history_holds(crowd, campaigns=[campaign])
    assert set(crowd.answers) <= {(202, ""), (200, ""), (503, "unavailable"), (503, "unconfirmed")}
    promises = crowd.promises(campaign.pk)
    repeated = {user: service.apply(campaign, user).json()["sequence"] for user in list(promises)[:100]}
    assert repeated.items() <= promises.items(), "the same places as before"
    assert consumer.stop() == 0


def test_a_flush_while_the_last_coupons_go_neither_oversells_nor_loses_one(service: Service) -> None:
    _, _, keeper = service.everything()
    campaign = service.campaign(300)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=100))

    crowd.goes_on("before the flush", users=200)
    admission_redis().flushall()
    crowd.is_told(409, "sold-out")

    verdict = assert_history_holds(crowd, campaigns=[campaign])[campaign.pk]
    assert "mend.done" in keeper.output
    assert verdict.sold_out >= 20
    assert issued(campaign) == 300, "sold out is said only while as many tickets are held as there are coupons"


def test_each_of_a_campaigns_keys_may_go_and_is_made_again(service: Service) -> None:
    """In one mend: three campaigns, each of which lost another key, half of its tickets issued."""
    campaigns = [service.campaign(100) for _ in range(3)]
    consumer = service.consumer()
    promises = [apply_all(campaign, range(20)) for campaign in campaigns]
    for campaign in campaigns:
        wait_until(lambda campaign=campaign: issued(campaign) == 20)  # type: ignore[misc]
    consumer.stop()
    for campaign, made in zip(campaigns, promises, strict=True):
        made.update(apply_all(campaign, range(20, 40)))

    for number, campaign in enumerate(campaigns):
        assert admission_redis().delete(campaign_keys(campaign.pk)[number]) == 1
    keeper = service.keeper()
    wait_until(lambda: keeper.output.count("mend.done") == 3, what=lambda: keeper.output)
    for campaign, made in zip(campaigns, promises, strict=True):
        assert apply_all(campaign, range(40)) == made, "the same places as before"
        made.update(apply_all(campaign, range(40, 45)))

    service.consumer()
    for campaign, made in zip(campaigns, promises, strict=True):
        assert sorted(made.values()) == list(range(1, 46)), "no place was given twice, none was left out"
        assert_kept(campaign, made)
    assert Coupon.objects.count() == 135
