"""Reads the metrics of the whole service from Redis, PostgreSQL and Kafka at each scrape."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from math import inf
from uuid import UUID

from django.db.models import Count
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from coupons.admission.campaign_cache import campaign_cache
from coupons.admission.campaign_store import Description, describe_each
from coupons.admission.scripts import admission_redis
from coupons.errors import DATABASE_DOWN, RetryLater, one_line
from coupons.messaging.topics import partition_count, partition_lags
from coupons.models import GIVEN_UP, Campaign, CampaignState, EventStatus, FailEventHistory
from coupons.runtime import heartbeats
from coupons.runtime.concurrently import ask_all
from coupons.runtime.db_timeouts import answers_within

logger = logging.getLogger(__name__)
SCRAPE_TIMEOUT_SEC = 3.0
DATABASE_TIMEOUT_SEC = 1.5  # leaves the other parts time to answer, should PostgreSQL hang
MAX_CAMPAIGNS = 200  # the newest ones: a label value each
OUTAGES = (RetryLater, RedisError, *DATABASE_DOWN)
Families = Iterator[GaugeMetricFamily]


class ServiceCollector(Collector):
    """Collects from each part. One that does not answer loses only its own metrics, and sets coupon_scrape_error."""

    def collect(self) -> Families:
        errors = GaugeMetricFamily("coupon_scrape_error", "1 = this part did not answer the scrape", labels=["part"])
        reads = {"postgresql": _from_postgresql, "redis": _from_redis, "kafka": _from_kafka}
        answers = ask_all({part: partial(_read, read) for part, read in reads.items()}, timeout_sec=SCRAPE_TIMEOUT_SEC)
        for part, answer in answers.items():
            families, error = answer.result() if answer.done() else ([], "no answer in time")
            yield from families
            if error:
                logger.warning("metrics.part_down part=%s error=%s", part, error)
            errors.add_metric([part], 1 if error else 0)
        yield errors


def _read(read: Callable[[], Families]) -> tuple[list[GaugeMetricFamily], str]:
    """Returns what was read before an outage, and the outage."""
    found: list[GaugeMetricFamily] = []
    try:
        found.extend(read())
    except OUTAGES as error:
        return found, one_line(error) or type(error).__name__
    return found, ""


def _from_postgresql() -> Families:
    issued = GaugeMetricFamily("coupon_issued", "Coupons in PostgreSQL", labels=["campaign"])
    for campaign in _campaigns():
        issued.add_metric([str(campaign.pk)], campaign.issued_count)
    yield issued
    failed = GaugeMetricFamily(
        "coupon_failed_events", "Failed events that are neither SUCCESS nor given up", labels=["error_code"]
    )
    given_up = GaugeMetricFamily("coupon_given_up_events", "Failed events that were given up", labels=["error_code"])
    unissued = FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS)
    counts = unissued.values("error_code").annotate(all=Count("pk"), given_up=Count("pk", filter=GIVEN_UP)).order_by()
    for code, total, ended in counts.values_list("error_code", "all", "given_up"):
        failed.add_metric([code], total - ended)
        given_up.add_metric([code], ended)
    yield failed
    yield given_up
    age = GaugeMetricFamily(
        "coupon_heartbeat_age_seconds",
        "Time since the keeper or a consumer went around its loop, or since the last job; +Inf = never",
        labels=["program"],
    )
    for program, since in heartbeats.ages().items():
        age.add_metric([program], inf if since is None else since.total_seconds())
    yield age


def _from_redis() -> Families:
    admitted = GaugeMetricFamily("coupon_admitted", "Tickets that the gate holds", labels=["campaign"])
    pending = GaugeMetricFamily("coupon_pending", "Tickets without a row in PostgreSQL", labels=["campaign"])
    stale = GaugeMetricFamily(
        "coupon_stale", "1 = no user is admitted: Redis is down, or its state is not current", labels=["campaign"]
    )
    loaded = _loaded()
    try:
        admission_redis().ping()  # fails without Redis even when there is no campaign
        described = describe_each(loaded)
    except OUTAGES:
        for campaign_id in loaded:  # else the alert would sleep through the outage
            stale.add_metric([str(campaign_id)], 1)
        yield stale
        raise
    for campaign_id, description in described.items():
        label = [str(campaign_id)]
        stale.add_metric(label, not isinstance(description, Description))
        if isinstance(description, Description):
            admitted.add_metric(label, description.admitted)
            pending.add_metric(label, description.pending)
    yield from (admitted, pending, stale)


def _loaded() -> dict[UUID, int]:
    """Returns the epochs of the campaigns that Redis should have; without PostgreSQL, those in the campaign cache."""
    try:
        with answers_within(DATABASE_TIMEOUT_SEC):
            return {campaign.pk: campaign.epoch for campaign in _campaigns() if campaign.is_loaded}
    except DATABASE_DOWN:
        return dict(islice(campaign_cache().loaded().items(), MAX_CAMPAIGNS))


def _from_kafka() -> Families:
    """Yields no lag without PostgreSQL, which has the read offsets."""
    lag = GaugeMetricFamily("coupon_consumer_lag", "Messages that the consumers have not read", labels=["partition"])
    partition_count()
    try:
        with answers_within(DATABASE_TIMEOUT_SEC):
            lags = partition_lags()
    except DATABASE_DOWN:
        return
    for partition, offsets in lags.items():
        lag.add_metric([str(partition)], offsets.lag)
    yield lag


def _campaigns() -> list[Campaign]:
    return list(Campaign.objects.exclude(state=CampaignState.DRAFT)[:MAX_CAMPAIGNS])
