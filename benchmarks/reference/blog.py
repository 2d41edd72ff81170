"""The well-known design, as literally as Django allows: INCR, and if it is not beyond the quantity, a message that
nobody waits for. It asks for no credentials, forgets who asked, and loses what it says: a reference for speed alone.
"""

import os
from functools import cache

from confluent_kafka import Producer
from django.urls import path
from redis import Redis
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.reference import BLOG_COUNT


@cache
def _redis() -> Redis:
    return Redis.from_url(os.environ["REDIS_URL"])


@cache
def _producer() -> Producer:
    return Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]})


class ApplyView(APIView):
    """`campaign_id` is the quantity: the blog has one campaign of 100."""

    def post(self, request: Request, campaign_id: str) -> Response:
        count: int = _redis().incr(BLOG_COUNT)
        if count > int(campaign_id):
            return Response({"status": "sold out"}, status=409)
        producer = _producer()
        producer.produce(os.environ["COUPON_TOPIC"], str(request.data["user_id"]))
        producer.poll(0)
        return Response({"status": "accepted"})


urlpatterns = [path("api/v1/campaigns/<str:campaign_id>/apply", ApplyView.as_view())]
