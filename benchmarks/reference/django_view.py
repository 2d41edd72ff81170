"""A bare Django view, without DRF: it reads the JSON body and answers with a small one."""

import json
import os

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.reference.django_settings"


def apply(request: HttpRequest, campaign_id: str) -> JsonResponse:
    return JsonResponse({"status": "pending", "user_id": json.loads(request.body)["user_id"]})


urlpatterns = [path("api/v1/campaigns/<str:campaign_id>/apply", apply)]

application = get_wsgi_application()
