"""Serves the documentation for clients: the OpenAPI document, a page that shows it, and a page of the problems.

All of it is public and comes from this server alone: the page's script and style are static files here.
"""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.generic import TemplateView

from coupons.api.problems import KINDS

_cached = cache_control(public=True, max_age=300)


@require_safe
@_cached
def schema(request: HttpRequest) -> HttpResponse:
    from coupons.api.schema import document  # here, so that other requests do not load the generator

    return JsonResponse(document())


docs = _cached(TemplateView.as_view(template_name="coupons/api_docs.html"))
# A problem's `type` links to its section there, e.g. `/api/docs/problems#sold-out`.
problems = _cached(TemplateView.as_view(template_name="coupons/problems.html", extra_context={"kinds": KINDS.items()}))
