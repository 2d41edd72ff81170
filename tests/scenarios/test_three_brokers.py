"""Three brokers, of which two must have a message: losing one stops nothing, losing two loses nothing."""

from collections.abc import Callable, Iterator

import pytest
from django.conf import LazySettings

from coupons.models import Campaign
from faults.crowd import Crowd
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.three_brokers import ThreeBrokers
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeBrokers]:
    with ThreeBrokers(tmp_path_factory.mktemp("brokers")) as brokers:
        yield brokers


@pytest.fixture
def brokers(cluster: ThreeBrokers, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreeBrokers]:
    with cluster.of_this_process(settings, monkeypatch):
        yield cluster


@pytest.fixture
def everything(brokers: ThreeBrokers, service: Service) -> Iterator[tuple[Service, Campaign, Crowd]]:
    """The service on the three brokers, which it must be made after, under load."""
    service.everything("--concurrency", "1")
    campaign = service.campaign(quantity=50_000)
    crowd = service.crowd(campaign)
    crowd.wait_for_promises("before", users=30)
    yield service, campaign, crowd
    brokers.start_all()


def assert_nothing_was_lost(brokers: ThreeBrokers, service: Service, campaign: Campaign, crowd: Crowd) -> None:
    brokers.start_all()
    crowd.wait_for_promises("with all three again", users=30)
    assert_history_holds(crowd, campaigns=[campaign], within_sec=90)
    assert service.run("reconcile_campaigns").exit_code == 0


@pytest.mark.parametrize("lose", [ThreeBrokers.kill, ThreeBrokers.pause], ids=["killed", "hanging"])
def test_losing_a_leader_stops_nothing_for_long(
    brokers: ThreeBrokers, everything: tuple[Service, Campaign, Crowd], lose: Callable[[ThreeBrokers, int], None]
) -> None:
    service, campaign, crowd = everything
    lost = brokers.leader(partition=0)

    lose(brokers, lost)
    wait_until(lambda: brokers.leader(partition=0) not in (lost, -1), within_sec=30, what="another one leads")
    crowd.wait_for_promises("with two of three", users=100, within_sec=30)

    assert_nothing_was_lost(brokers, service, campaign, crowd)


def test_two_brokers_down_promise_nothing_and_lose_nothing(
    brokers: ThreeBrokers, everything: tuple[Service, Campaign, Crowd]
) -> None:
    service, campaign, crowd = everything

    for number in (2, 3):
        brokers.kill(number)
    crowd.wait_for_answers(503, "unconfirmed", times=20)

    assert_nothing_was_lost(brokers, service, campaign, crowd)


def test_a_rolling_restart_under_load_loses_nothing(
    brokers: ThreeBrokers, everything: tuple[Service, Campaign, Crowd]
) -> None:
    service, campaign, crowd = everything

    for number in (1, 2, 3):
        brokers.stop(number)
        crowd.wait_for_promises(f"without broker {number}", users=20)
        brokers.start(number)
        wait_until(brokers.are_in_sync, within_sec=60, what=f"broker {number} has caught up")

    assert_nothing_was_lost(brokers, service, campaign, crowd)
