"""Answers a load balancer (/healthz, /readyz) and a Prometheus server (/metrics)."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from coupons.api.problem_responses import outages
from coupons.api.readiness import judge
from coupons.api.service_metrics import ServiceCollector
from coupons.metrics import ARE_SHARED

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


def healthz(request: HttpRequest) -> HttpResponse:
    """200 while this process answers. It checks no other part."""
    return JsonResponse({"status": "alive"})


def readyz(request: HttpRequest) -> HttpResponse:
    """200 while an application would be accepted (coupons/api/readiness.py); else 503, and a load balancer sends users
    elsewhere."""
    document = judge()
    response = JsonResponse(document)
    if document["status"] == "unavailable":
        response.status_code = 503
        outages.log("not_ready", document["parts"])
        response._has_been_logged = True  # type: ignore[attr-defined]  # by Django, a line for each probe
    return response


def metrics(request: HttpRequest) -> HttpResponse:
    counters: CollectorRegistry = REGISTRY
    if ARE_SHARED:
        counters = CollectorRegistry()
        MultiProcessCollector(counters)  # type: ignore[no-untyped-call]
    service = CollectorRegistry()
    service.register(ServiceCollector())
    return HttpResponse(generate_latest(counters) + generate_latest(service), content_type=CONTENT_TYPE_LATEST)
