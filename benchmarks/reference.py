"""The references of the comparison: bare DRF views, and the design of a well-known blog post (reference_server.py).

The bare view reads the same body and answers with a small one, without middleware, credentials or database; two more
insert or read one row. The blog's design is as literal as Django allows: INCR, and up to the quantity a message without
waiting for its acknowledgement. It checks no credentials, stores no users and can lose what it promised, so it is a
reference for speed alone.
"""

import os
from functools import cache

from confluent_kafka import Producer
from django.urls import path
from redis import Redis
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks import BLOG_COUNT
from benchmarks.models import BareCoupon, Row


@cache
def redis() -> Redis:
    return Redis.from_url(os.environ["REDIS_URL"])


@cache
def producer() -> Producer:
    return Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]})


class BareView(APIView):
    def get(self, request: Request) -> Response:
        return Response()

    def post(self, request: Request, campaign_id: int) -> Response:
        return Response({"status": "pending", "user_id": request.data["user_id"]})


class BlogView(APIView):
    """The URL has the `quantity`: the blog post has one campaign of 100."""

    def post(self, request: Request, quantity: int) -> Response:
        count: int = redis().incr(BLOG_COUNT)
        if count > quantity:
            return Response({"status": "sold out"}, status=409)
        producer().produce(os.environ["COUPON_TOPIC"], str(request.data["user_id"]))
        producer().poll(0)
        return Response({"status": "accepted"})


class InsertView(APIView):
    def post(self, request: Request) -> Response:
        row = Row.objects.create(code=request.data["code"], order_ref=request.data["order_ref"])
        return Response({"id": row.pk, "status": "redeemed"}, status=201)


class ReadView(APIView):
    def post(self, request: Request) -> Response:
        coupon = BareCoupon.objects.get(code=request.data["code"])
        return Response({"redeemable": True, "user_id": coupon.user_id})


urlpatterns = [
    path("bare/rows", InsertView.as_view()),
    path("bare/coupon", ReadView.as_view()),
    path("readyz", BareView.as_view()),
    path("bare/campaigns/<int:campaign_id>/apply", BareView.as_view()),
    path("blog/campaigns/<int:quantity>/apply", BlogView.as_view()),
]
