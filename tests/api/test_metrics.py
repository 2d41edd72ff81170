"""/metrics: the counters of all web processes together, and what is true of the whole service."""

import time
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path

import pytest
import urllib3
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from coupons.api.service_metrics import SCRAPE_TIMEOUT_SEC
from coupons.models import Campaign, FailCode, FailEventHistory
from tests.support.process import Process
from tests.support.service import Service, message
from tests.support.waiting import wait_until

Samples = dict[tuple[str, str], float]  # (name, the value of its one label) -> value


def scrape(service: Service) -> Samples:
    answer = urllib3.request("GET", f"{service.url}/metrics", timeout=30)
    assert answer.status == 200
    samples: Samples = {}
    for family in text_string_to_metric_families(answer.data.decode()):
        for sample in family.samples:
            labels = [value for name, value in sample.labels.items() if name != "le"]
            samples[sample.name, ",".join(labels)] = sample.value
    return samples


@pytest.fixture
def web(service: Service, tmp_path: Path) -> Process:
    return service.web(COUPON_WEB_WORKERS="2", COUPON_METRICS_DIR=str(tmp_path / "metrics"))


@pytest.fixture
def scraped(service: Service, web: Process) -> Service:
    return service


def test_the_counters_of_both_web_processes_are_added_up(scraped: Service, web: Process, tmp_path: Path) -> None:
    campaign = scraped.campaign(10)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda user: scraped.apply(campaign, str(user)), range(60)))
    scraped.apply(campaign, "no user id")

    writers = {file.stem.split("_")[-1] for file in (tmp_path / "metrics").glob("counter_*.db")}
    assert len(writers - {str(web.pid)}) == 2, "both processes answered, or nothing is shown here"
    wait_until(
        lambda: scrape(scraped).get(("coupon_applies_total", "sold_out")) == 50,
        what="what was refused without Redis, a tick late",
    )
    for _ in range(6):  # whichever process answers
        samples = scrape(scraped)
        assert samples["coupon_applies_total", "admitted"] == 10
        assert samples["coupon_applies_total", "sold_out"] == 50
        asked = samples["coupon_apply_duration_seconds_count", "sold_out"]  # who knows the refusal asks nobody
        assert asked + samples["coupon_cached_refusals_total", ""] == 50
        assert samples["coupon_publish_duration_seconds_count", ""] == 10


def test_metrics_count_the_whole_service(scraped: Service) -> None:
    campaign = scraped.campaign(10)
    label = str(campaign.pk)
    for user in range(3):
        scraped.apply(campaign, str(user))
    scraped.produce(message(campaign.pk, "forged", 9), b"no JSON")

    before = scrape(scraped)
    assert (before["coupon_admitted", label], before["coupon_pending", label]) == (3, 3)
    assert before["coupon_issued", label] == 0
    assert sum(value for (name, _), value in before.items() if name == "coupon_consumer_lag") == 5

    scraped.consumer("--solo")
    wanted = {
        ("coupon_issued", label): 3,
        ("coupon_pending", label): 0,
        ("coupon_failed_events", "not-admitted"): 1,
        ("coupon_failed_events", "invalid-message"): 1,
        ("coupon_admitted", label): 3,
    }
    wait_until(lambda: wanted.items() <= scrape(scraped).items(), what=lambda: f"{wanted} in {scrape(scraped)}")
    wait_until(lambda: set(lags(scraped)) == {0.0}, what="no lag")


def test_a_part_that_is_down_costs_only_its_own_metrics(scraped: Service) -> None:
    campaign = scraped.campaign(10)
    label = str(campaign.pk)
    scraped.apply(campaign, "1")

    scraped.stack("kill", "redis")
    without_redis = scrape(scraped)
    assert errors(without_redis) == {"postgresql": 0, "redis": 1, "kafka": 0}
    assert without_redis["coupon_issued", label] == 0
    assert ("coupon_consumer_lag", "0") in without_redis
    assert ("coupon_admitted", label) not in without_redis

    scraped.stack("start", "redis")
    scraped.stack("pause", "kafka")
    without_kafka = scrape(scraped)
    assert errors(without_kafka) == {"postgresql": 0, "redis": 0, "kafka": 1}
    assert without_kafka["coupon_stale", label] == 1, "Redis was started again and nobody has rebuilt it"
    scraped.stack("resume", "kafka")


def test_without_postgresql_the_metrics_of_redis_and_kafka_are_there(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="1")  # the process that is asked has admitted the user, so it knows the campaign
    campaign = service.campaign(10)
    service.apply(campaign, "1")
    scrape(service)

    service.stack("kill", "postgres")
    samples = scrape(service)

    assert errors(samples) == {"postgresql": 1, "redis": 0, "kafka": 0}
    assert ("coupon_consumer_lag", "0") not in samples, "PostgreSQL alone knows what was read"
    assert samples["coupon_admitted", str(campaign.pk)] == 1
    service.stack("start", "postgres")


def test_no_alert_sleeps_while_redis_is_down(scraped: Service) -> None:
    label = str(scraped.campaign(10).pk)
    assert scrape(scraped)["coupon_stale", label] == 0

    scraped.stack("kill", "redis")
    assert scrape(scraped)["coupon_stale", label] == 1, "nobody is admitted"
    scraped.stack("start", "redis")


def test_a_scrape_waits_three_seconds_for_what_hangs(scraped: Service) -> None:
    for part in ("kafka", "postgres"):
        scraped.stack("pause", part)

    started = time.monotonic()
    assert errors(scrape(scraped)) == {"postgresql": 1, "redis": 0, "kafka": 1}
    assert time.monotonic() - started < SCRAPE_TIMEOUT_SEC + 1
    for part in ("kafka", "postgres"):
        scraped.stack("resume", part)


def test_requests_that_are_wrong_are_no_errors_of_ours(scraped: Service) -> None:
    campaign = scraped.campaign(10)
    answers = [scraped.apply(campaign, "no user id"), scraped.apply(Campaign(), "u")]
    assert [answer.status for answer in answers] == [400, 404]

    samples = scrape(scraped)

    assert samples["coupon_applies_total", "invalid"] == 1
    assert samples["coupon_applies_total", "unknown_campaign"] == 1
    assert ("coupon_applies_total", "error") not in samples


def test_given_up_events_wait_for_no_retry(scraped: Service) -> None:
    campaign = scraped.campaign(10)
    code = FailCode.CONFLICT
    for offset, given_up_at in enumerate([None, timezone.now()]):
        FailEventHistory.objects.create(
            campaign=campaign, payload=b"{}", error_code=code, partition=0, offset=offset, given_up_at=given_up_at
        )

    samples = scrape(scraped)

    assert (samples["coupon_failed_events", code], samples["coupon_given_up_events", code]) == (1, 1)


def test_programs_tell_when_they_last_worked(scraped: Service) -> None:
    assert scrape(scraped)["coupon_heartbeat_age_seconds", "keeper"] == inf
    scraped.keeper()
    wait_until(lambda: scrape(scraped)["coupon_heartbeat_age_seconds", "keeper"] < 30, what="the keeper's heartbeat")


def lags(service: Service) -> list[float]:
    """Of every partition that it has an answer for."""
    return [value for (name, _), value in scrape(service).items() if name == "coupon_consumer_lag"]


def errors(samples: Samples) -> dict[str, float]:
    return {part: value for (name, part), value in samples.items() if name == "coupon_scrape_error"}
