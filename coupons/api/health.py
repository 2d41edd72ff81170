"""Answers a load balancer (/healthz, /readyz) and a Prometheus server (/metrics)."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from coupons.admission.scripts import admission_redis, cluster_problem
from coupons.api.service_metrics import ServiceCollector
from coupons.messaging.topics import partition_count
from coupons.metrics import ARE_SHARED
from coupons.runtime.db_timeouts import answers_within


def healthz(request: HttpRequest) -> HttpResponse:
    """200 while this process answers. It checks no other part."""
    return JsonResponse({"status": "alive"})


def readyz(request: HttpRequest) -> HttpResponse:
    """200 while Redis and Kafka answer, so users can be admitted. Without PostgreSQL it is `degraded`, and still 200:
    admission goes on, and a load balancer that took this process out would stop it."""
    parts = _ask_all({"redis": _ask_redis, "kafka": _ask_kafka, "postgresql": _ask_postgresql})
    admits = parts["redis"] == parts["kafka"] == "ok"
    status = "unavailable" if not admits else "ready" if parts["postgresql"] == "ok" else "degraded"
    return JsonResponse({"status": status, "parts": parts}, status=200 if admits else 503)


def metrics(request: HttpRequest) -> HttpResponse:
    counters: CollectorRegistry = REGISTRY
    if ARE_SHARED:
        counters = CollectorRegistry()
        MultiProcessCollector(counters)  # type: ignore[no-untyped-call]
    service = CollectorRegistry()
    service.register(ServiceCollector())
    return HttpResponse(generate_latest(counters) + generate_latest(service), content_type=CONTENT_TYPE_LATEST)


def _ask_all(questions: dict[str, Callable[[], str]]) -> dict[str, str]:
    """Checks all parts concurrently, within `HEALTH_TIMEOUT_MS`. A check that hangs longer ends by its own time-out."""
    pool = ThreadPoolExecutor(len(questions), thread_name_prefix="readyz")
    answers = {name: pool.submit(ask) for name, ask in questions.items()}
    pool.shutdown(wait=False)
    wait(answers.values(), timeout=settings.HEALTH_TIMEOUT_MS / 1000)
    return {name: _state(answer) for name, answer in answers.items()}


def _state(answer: Future[str]) -> str:
    if not answer.done():
        return "no answer in time"
    error = answer.exception()
    return answer.result() if error is None else f"down ({type(error).__name__})"  # no text: it may hold an address


def _ask_redis() -> str:
    if not admission_redis().ping():
        return "no PONG"
    return "is a Redis Cluster" if cluster_problem() else "ok"


def _ask_kafka() -> str:
    return "ok" if partition_count() else "topic is missing"


def _ask_postgresql() -> str:
    try:
        with answers_within(settings.HEALTH_TIMEOUT_MS / 1000), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return "ok"
    finally:
        connection.close()
