"""The bare view at the product's own address: it reads the same body and answers with a small one."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class BareView(APIView):
    def post(self, request: Request, campaign_id: str) -> Response:
        return Response({"status": "pending", "user_id": request.data["user_id"]})


urlpatterns = [path("api/v1/campaigns/<str:campaign_id>/apply", BareView.as_view())]
