"""From click to row in the seed's test: 1,000 users on 32 threads over 100 coupons, beside the blog's design.

Both with their web server and their consumer, in turn; the product's keeper runs too. A user's time is from the first
request until the INSERT of the row began, by the database's clock.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without __all__
from django.conf import settings
from django.db import connection
from redis import Redis

from benchmarks.crowd import Crowd
from benchmarks.figures import Mark, percentile
from benchmarks.http_target import READY_SEC, apply_path
from benchmarks.reference import BLOG_COUNT
from benchmarks.reference.blog_coupon import BlogCoupon
from benchmarks.services import HOST, MANAGE, Service, ServiceFailed, Services
from benchmarks.workload import Run, open_new
from benchmarks.wrk_target import start_product, start_reference
from coupons.messaging.topics import administrator
from coupons.models import Coupon

USERS, THREADS, QUANTITY = 1_000, 32, 100
ROUNDS = 3
"""In a repeat, whose rows count together: a hundred rows have but one above their p99."""
PATIENCE_SEC = 60.0
LOST_SEC = 10.0
"""After the last answer: a message that has not become a row by then is taken for lost."""


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    with connection.schema_editor() as editor:
        editor.create_model(BlogCoupon)
    with _topic_of_the_blog() as topic, Services(log_folder=run.log_folder) as services:
        web_port = _start_product(services)
        blog_port = _start_blog(services, topic)
        rounds: dict[str, Callable[[], list[float]]] = {
            "product": lambda: _product_round(web_port),
            "blog": lambda: _blog_round(blog_port),
        }
        for play in rounds.values():
            play()  # to warm up
        repeats = [_repeat(run, rounds) for _ in range(run.repeats)]
    medians = {
        name: {figure: median(each[name][figure] for each in repeats) for figure in ("p50_ms", "p99_ms")}
        for name in rounds
    }
    ratio = median(each["product"]["p99_ms"] / each["blog"]["p99_ms"] for each in repeats)
    result = {"users": USERS, "threads": THREADS, "quantity": QUANTITY, "medians": medians, "repeats": repeats}
    return result, [Mark("click to row, p99 against the blog's design", ratio, 1, "x", at_least=False)]


def _repeat(run: Run, rounds: dict[str, Callable[[], list[float]]]) -> dict[str, dict[str, float]]:
    waits: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(run.size(ROUNDS, 1)):
        for name, play in rounds.items():
            waits[name] += play()
    found = {
        name: {"p50_ms": percentile(times, 50), "p99_ms": percentile(times, 99), "rows": float(len(times))}
        for name, times in waits.items()
    }
    run.say(", ".join(f"{name}: p50 {each['p50_ms']:.0f}, p99 {each['p99_ms']:.0f} ms" for name, each in found.items()))
    return found


def _product_round(port: int) -> list[float]:
    campaign_id = open_new("click to row", QUANTITY)
    coupons = Coupon.objects.filter(campaign_id=campaign_id)
    return _play(
        f"http://{HOST}:{port}{apply_path(campaign_id)}", "", lambda: dict(coupons.values_list("user_id", "issued_at"))
    )


def _blog_round(port: int) -> list[float]:
    """Nobody empties the table in between: each round's users are new ones."""
    Redis.from_url(settings.REDIS_URL).delete(BLOG_COUNT)
    prefix = f"{time.monotonic_ns()}-"
    coupons = BlogCoupon.objects.filter(user_id__startswith=prefix)
    url = f"http://{HOST}:{port}{apply_path(QUANTITY)}"
    return _play(url, prefix, lambda: dict(coupons.values_list("user_id", "issued_at")), loses=True)


def _play(url: str, prefix: str, rows: Callable[[], dict[str, Any]], *, loses: bool = False) -> list[float]:
    """Milliseconds from click to row of each row's user. Raises ServiceFailed unless all coupons became rows; but one
    that `loses` some is waited for a while only, and those it has lost do not count."""
    crowd = Crowd(
        url=url,
        api_key=settings.API_KEYS[0],
        users=[f"{prefix}{number}" for number in range(1, USERS + 1)],
        threads=THREADS,
        patience_sec=PATIENCE_SEC,
    )
    crowd.start()
    deadline = time.monotonic() + 2 * PATIENCE_SEC
    lost_at = 0.0
    while not crowd.finished or len(written := rows()) < QUANTITY:
        if crowd.finished:
            lost_at = lost_at or time.monotonic() + LOST_SEC
            if loses and written and time.monotonic() > lost_at:
                break
        if time.monotonic() > deadline:
            crowd.stop()
            raise ServiceFailed(f"{len(rows())} of {QUANTITY} coupons, {crowd.admitted} users admitted at {url}.")
        time.sleep(0.05)
    sent_at = {answer.user_id: answer.sent_at for answer in crowd.answers}
    return [(issued_at.timestamp() - sent_at[user]) * 1000 for user, issued_at in written.items()]


def _start_product(services: Services) -> int:
    _, port = start_product(services)
    consumer = services.start("bench-consumer", [*MANAGE, "run_coupon_consumer", "--loglevel", "INFO"])
    services.start("bench-keeper", [*MANAGE, "run_keeper"])
    _wait_for(services, consumer, "consumer.assigned")
    return port


def _start_blog(services: Services, topic: str) -> int:
    own = {"COUPON_TOPIC": topic, "COUPON_CONSUMER_GROUP": topic}
    _, port = start_reference(services, "blog", own)
    command = [sys.executable, "-m", "benchmarks.reference.blog_consumer"]
    _wait_for(services, services.start("bench-blog-consumer", command, own), "assigned")
    return port


def _wait_for(services: Services, consumer: Service, text: str) -> None:
    services.wait("The consumer's group", lambda: consumer.has_logged(text), deadline_sec=READY_SEC, of=consumer)


@contextmanager
def _topic_of_the_blog() -> Iterator[str]:
    """The product's consumer must not meet messages that are nothing to it."""
    topic = f"{settings.TOPIC}_blog"
    administrator().create_topics([NewTopic(topic, num_partitions=settings.TOPIC_PARTITIONS)])[topic].result()
    try:
        yield topic
    finally:
        administrator().delete_consumer_groups([topic])[topic].exception()
        administrator().delete_topics([topic])[topic].result()
