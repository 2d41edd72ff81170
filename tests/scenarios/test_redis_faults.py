"""Redis loses or rewinds what it knows, or does not answer: 503, mended by the keeper, nothing lost, nobody beyond."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import urllib3

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.models import Campaign, Coupon, FailEventHistory
from tests.support.promises import Promises, apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.waiting import wait_until


class Crowd:
    """Users who apply over HTTP and repeat until somebody tells them for good."""

    def __init__(self, service: Service, campaign: Campaign) -> None:
        self._service = service
        self._campaign = campaign
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.promises: Promises = {}
        self.changed: list[tuple[str, int, int]] = []  # who was promised two different places
        self.answers: Counter[tuple[int, str]] = Counter()

    def run(self, threads: int = 6) -> "Crowd":
        self._pool = ThreadPoolExecutor(threads)
        self._running = [self._pool.submit(self._apply_on) for _ in range(threads)]
        return self

    def stop(self) -> None:
        self._stopped.set()
        for running in self._running:
            running.result(30)
        self._pool.shutdown()

    def _apply_on(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                user = str(next(self._numbers))
            while (answer := self._service.apply(self._campaign, user)).status == 503:
                self._note(answer, user)
                if self._stopped.wait(0.05):
                    return
            self._note(answer, user)

    def _note(self, answer: urllib3.BaseHTTPResponse, user: str) -> None:
        document = answer.json()
        with self._lock:
            self.answers[answer.status, document.get("code", "")] += 1
            if answer.status in (200, 202):
                self.promises[user] = document["sequence"]


def test_redis_hangs_restarts_and_is_flushed_under_traffic(service: Service) -> None:
    """After each fault users are promised again; at the end every promise is kept and nobody is beyond the quantity."""
    _, consumer, keeper = service.everything()
    campaign = service.campaign(2_000)
    crowd = Crowd(service, campaign).run()

    def goes_on(what: str) -> None:
        before = len(crowd.promises)
        wait_until(lambda: len(crowd.promises) >= before + 50, within_sec=40, what=f"users are promised after {what}")

    goes_on("the start")
    refused = crowd.answers[503, "unavailable"]
    service.stack("pause", "redis")
    wait_until(lambda: crowd.answers[503, "unavailable"] > refused, what="503 while Redis hangs")
    service.stack("resume", "redis")
    goes_on("the hang")
    assert "mend.done" not in keeper.output, "a hang loses nothing, so nothing is mended"

    service.stack("kill", "redis")
    service.stack("start", "redis")
    goes_on("the restart")
    keeper.says("mend.done")
    assert keeper.output.count("mend.done") == 1

    admission_redis().flushall()
    goes_on("the flush")
    assert keeper.output.count("mend.done") == 2
    crowd.stop()

    assert set(crowd.answers) <= {(202, ""), (200, ""), (503, "unavailable"), (503, "unconfirmed")}
    repeated = {user: service.apply(campaign, user).json()["sequence"] for user in list(crowd.promises)[:100]}
    assert repeated.items() <= crowd.promises.items(), "the same places as before"
    assert_kept(campaign, crowd.promises, within_sec=60)
    assert consumer.stop() == 0


def test_a_flush_while_the_last_coupons_go_neither_oversells_nor_loses_one(service: Service) -> None:
    _, _, keeper = service.everything()
    campaign = service.campaign(300)
    crowd = Crowd(service, campaign).run()

    wait_until(lambda: len(crowd.promises) >= 200)
    admission_redis().flushall()
    wait_until(lambda: crowd.answers[409, "sold-out"] >= 20, within_sec=40, what="sold out at last")
    crowd.stop()

    assert "mend.done" in keeper.output
    ledger = assert_kept(campaign, crowd.promises, failed=FailEventHistory.objects.filter(campaign=campaign).count())
    assert ledger.tickets == 300, "sold out is said only while as many tickets are held as there are coupons"


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
