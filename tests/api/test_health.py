"""/healthz and /readyz: a load balancer must not take out what still admits, nor wait for what does not answer."""

import signal
import time
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db.models import F
from django.test import Client
from django.utils import timezone

from coupons.admission.scripts import admission_redis
from coupons.models import Heartbeat, JobRun
from coupons.runtime import heartbeats
from tests.support.http import Api, json_of
from tests.support.service import Service
from tests.support.timeouts import LONG_MS
from tests.support.waiting import wait_until

PARTS = ["redis", "kafka", "campaigns", "postgresql", "keeper", "consumer", "jobs"]


@pytest.fixture(autouse=True)
def slow_parts(settings: LazySettings) -> int:
    """What only stands still for a moment is no part that hangs. Gives the usual time-out, for those that do."""
    usual: int = settings.HEALTH_TIMEOUT_MS
    settings.HEALTH_TIMEOUT_MS = LONG_MS
    return usual


@pytest.fixture(autouse=True)
def all_programs_run(service: Service) -> None:
    """Their heartbeats stay fresh for longer than a test; the real ones are below."""
    for program in (heartbeats.KEEPER, heartbeats.CONSUMER):
        Heartbeat.objects.create(program=program, beat_at=timezone.now())
    for job in heartbeats.job_names():
        JobRun.objects.create(name=job, started_at=timezone.now())


def ready() -> tuple[int, str, dict[str, str]]:
    answer = Client().get("/readyz")
    document = json_of(answer)
    return answer.status_code, document["status"], document["parts"]


def test_ready_when_every_part_works_and_nobody_needs_a_key(service: Service) -> None:
    assert ready() == (200, "ready", dict.fromkeys(PARTS, "ok"))
    assert Client().get("/healthz").status_code == 200


def test_without_redis_or_kafka_it_is_unavailable_and_alive(
    service: Service, settings: LazySettings, slow_parts: int
) -> None:
    service.stack("kill", "redis")
    service.stack("pause", "kafka")
    settings.HEALTH_TIMEOUT_MS = slow_parts

    status, word, parts = wait_until(lambda: (now := ready())[2]["postgresql"] == "ok" and now)

    assert (status, word) == (503, "unavailable")
    assert parts["redis"].startswith("down")
    assert parts["kafka"] != "ok"
    assert Client().get("/healthz").status_code == 200
    service.stack("resume", "kafka")
    service.stack("start", "redis")
    wait_until(lambda: ready()[:2] == (200, "ready"), what="all is well again")


def test_a_redis_that_hangs_does_not_hide_that_kafka_answers(
    service: Service, settings: LazySettings, slow_parts: int
) -> None:
    service.stack("pause", "redis")
    settings.HEALTH_TIMEOUT_MS = slow_parts

    status, word, _ = wait_until(lambda: (now := ready())[2]["kafka"] == "ok" and now)

    assert (status, word) == (503, "unavailable")


def test_parts_that_hang_are_not_waited_for(service: Service, settings: LazySettings, slow_parts: int) -> None:
    """A probe must answer before its caller gives up, in three seconds as a rule: also with two of them."""
    service.stack("pause", "redis")
    service.stack("pause", "kafka")
    settings.HEALTH_TIMEOUT_MS = slow_parts

    def in_time() -> bool:
        started = time.monotonic()
        assert ready()[:2] == (503, "unavailable")
        return time.monotonic() - started < slow_parts / 1000 + 0.5

    wait_until(in_time, what="an answer that waited for one time-out, and not for two")


def test_without_its_topic_it_is_unavailable_and_says_so(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = "no-such-topic"

    status, word, parts = ready()

    assert (status, word) == (503, "unavailable")
    assert parts["kafka"] == "topic is missing"


def test_without_postgresql_it_is_degraded_and_goes_on_admitting(
    service: Service, settings: LazySettings, slow_parts: int
) -> None:
    wait_until(lambda: ready()[:2] == (200, "ready"), what="this process knows the campaigns")
    service.stack("pause", "postgres")
    settings.HEALTH_TIMEOUT_MS = slow_parts
    wait_until(lambda: ready()[:2] == (200, "degraded"), what="the others have answered")
    settings.HEALTH_TIMEOUT_MS = LONG_MS

    service.stack("resume", "postgres")
    service.stack("kill", "postgres")
    status, word, parts = ready()
    assert (status, word, parts["redis"], parts["kafka"]) == (200, "degraded", "ok", "ok")
    assert "127.0.0.1" not in parts["postgresql"], "an address is nothing for strangers"

    service.stack("start", "postgres")
    wait_until(lambda: ready()[:2] == (200, "ready"), what="all is well again")


def test_a_stale_campaign_that_nobody_rebuilds_is_no_readiness(service: Service, api: Api) -> None:
    campaign = service.campaign(10)
    wait_until(lambda: ready()[:2] == (200, "ready"), what="the campaign is known")

    admission_redis().flushall()

    assert api.apply(campaign).status_code == 503
    answer = Client().get("/readyz")
    document = json_of(answer)
    assert (answer.status_code, document["status"]) == (503, "unavailable")
    assert document["parts"]["campaigns"] == "1 of 1 open campaigns have no current state in Redis"
    assert "run_keeper" in document["what_to_do"]["campaigns"]


def test_one_stale_campaign_of_two_takes_no_process_out(service: Service, api: Api) -> None:
    stale, current = service.campaign(10), service.campaign(10)
    wait_until(lambda: ready()[:2] == (200, "ready"), what="the campaigns are known")

    admission_redis().delete(*admission_redis().keys(f"*{stale.pk}*"))

    assert ready()[:2] == (200, "attention")
    assert ready()[2]["campaigns"] == "1 of 2 open campaigns have no current state in Redis"
    assert api.apply(current).status_code == 202


def test_a_redis_that_refuses_writes_is_unavailable(service: Service) -> None:
    """A demoted primary answers PING."""
    admission_redis().replicaof("127.0.0.1", "1")
    try:
        assert admission_redis().ping()
        status, word, parts = ready()
    finally:
        admission_redis().replicaof("NO", "ONE")

    assert (status, word) == (503, "unavailable")
    assert parts["redis"].startswith("refuses writes (")


def test_a_primary_without_its_replicas_is_unavailable(service: Service, api: Api) -> None:
    """With `min-replicas-to-write`, one that is cut off from them refuses writes."""
    campaign = service.campaign(10)
    admission_redis().config_set("min-replicas-to-write", 1)
    try:
        assert api.apply(campaign).status_code == 503
        status, word, parts = ready()
    finally:
        admission_redis().config_set("min-replicas-to-write", 0)

    assert (status, word) == (503, "unavailable")
    assert parts["redis"].startswith("refuses writes (")
    assert api.apply(campaign).status_code == 202


def test_too_few_replicas_in_sync_is_unavailable(service: Service, settings: LazySettings) -> None:
    settings.TOPIC_MIN_INSYNC_REPLICAS = 2

    status, word, parts = ready()

    assert (status, word) == (503, "unavailable")
    assert parts["kafka"] == "4 of 4 partitions have fewer than 2 replicas in sync"


@pytest.mark.parametrize("program", ["keeper", "consumer"])
def test_a_program_that_stands_still_needs_attention(service: Service, program: str) -> None:
    Heartbeat.objects.all().delete()
    assert ready()[2][program] == "has never run"
    process = service.keeper() if program == "keeper" else service.consumer("--solo")
    wait_until(lambda: ready()[2][program] == "ok", what="its first heartbeat")

    process.signal(signal.SIGSTOP)
    Heartbeat.objects.update(beat_at=F("beat_at") - timedelta(seconds=60))

    status, word, parts = ready()
    assert (status, word) == (200, "attention"), "users are admitted all the same"
    assert parts[program].startswith("silent for 6")
    process.signal(signal.SIGCONT)
    wait_until(lambda: ready()[2][program] == "ok", what="it goes on")


@pytest.mark.parametrize("job", heartbeats.job_names())
def test_a_job_that_does_not_run_needs_attention(service: Service, job: str) -> None:
    JobRun.objects.filter(name=job).update(started_at=timezone.now() - timedelta(minutes=11))

    assert ready()[1:] == ("attention", dict.fromkeys(PARTS, "ok") | {"jobs": "silent for 660 s"})
    service.run("run_jobs", "--once")
    JobRun.objects.create(name="a job of an earlier version", started_at=timezone.now() - timedelta(days=100))
    assert ready()[:2] == (200, "ready")


def test_liveness_asks_no_server(service: Service, settings: LazySettings) -> None:
    for part in ("redis", "kafka", "postgres"):
        service.stack("pause", part)

    started = time.monotonic()
    assert Client().get("/healthz").status_code == 200
    assert time.monotonic() - started < settings.HEALTH_TIMEOUT_MS / 1000
    for part in ("redis", "kafka", "postgres"):
        service.stack("resume", part)
