"""What a client's engineer reads: the OpenAPI document, a page to read it, and what each problem means.

All of it is open to everybody and comes from this server alone: the page's script and style are static files here.
"""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from coupons.api.problems import KINDS


@require_safe
@cache_control(public=True, max_age=300)
def schema(request: HttpRequest) -> HttpResponse:
    from coupons.api.schema import document  # the generator: only whoever asks for it pays for it

    return JsonResponse(document())


@require_safe
@cache_control(public=True, max_age=300)
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "coupons/api_docs.html")


@require_safe
@cache_control(public=True, max_age=300)
def problems(request: HttpRequest) -> HttpResponse:
    """Where a problem's `type` leads: `/api/docs/problems#sold-out`."""
    kinds = [(str(code), kind) for code, kind in KINDS.items()]
    return render(request, "coupons/problems.html", {"kinds": kinds})
