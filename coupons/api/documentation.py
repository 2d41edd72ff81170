"""Serves the documentation for clients: the OpenAPI document, a page that shows it, and a page of the problems.

All of it is public and comes from this server alone: the page's script and style are static files here.
"""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from coupons.api.problems import KINDS


@require_safe
@cache_control(public=True, max_age=300)
def schema(request: HttpRequest) -> HttpResponse:
    from coupons.api.schema import document  # here, so that other requests do not load the generator

    return JsonResponse(document())


@require_safe
@cache_control(public=True, max_age=300)
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "coupons/api_docs.html")


@require_safe
@cache_control(public=True, max_age=300)
def problems(request: HttpRequest) -> HttpResponse:
    """Shows the page that a problem's `type` links to, e.g. `/api/docs/problems#sold-out`."""
    return render(request, "coupons/problems.html", {"kinds": KINDS.items()})
