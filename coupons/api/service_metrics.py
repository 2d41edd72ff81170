"""Reads the metrics of the whole service from Redis, PostgreSQL and Kafka at each scrape."""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
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
from coupons.models import Campaign, CampaignState, EventStatus, FailEventHistory
from coupons.runtime.db_timeouts import answers_within

logger = logging.getLogger(__name__)
DATABASE_TIMEOUT_SEC = 3.0
MAX_CAMPAIGNS = 200  # the newest ones: a label value each


class ServiceCollector(Collector):
    """Collects from each part. One that does not answer loses only its own metrics, and sets coupon_scrape_error."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        errors = GaugeMetricFamily("coupon_scrape_error", "1 = this part did not answer the scrape", labels=["part"])
        parts: list[tuple[str, Callable[[], Iterable[GaugeMetricFamily]]]] = [
            ("postgresql", _from_postgresql),
            ("redis", _from_redis),
            ("kafka", _from_kafka),
        ]
        for part, read in parts:
            try:
                with answers_within(DATABASE_TIMEOUT_SEC):
                    yield from list(read())
                errors.add_metric([part], 0)
            except (RetryLater, RedisError, *DATABASE_DOWN) as error:
                logger.warning("metrics.part_down part=%s error=%s", part, one_line(error))
                errors.add_metric([part], 1)
        yield errors


def _from_postgresql() -> Iterable[GaugeMetricFamily]:
    issued = GaugeMetricFamily("coupon_issued", "Coupons in PostgreSQL", labels=["campaign"])
    failed = GaugeMetricFamily("coupon_failed_events", "Failed events that are not SUCCESS", labels=["error_code"])
    for campaign in _campaigns():
        issued.add_metric([str(campaign.pk)], campaign.issued_count)
    open_events = FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS)
    for error_code, count in open_events.values_list("error_code").annotate(Count("pk")).order_by():
        failed.add_metric([error_code], count)
    return [issued, failed]


def _from_redis() -> Iterable[GaugeMetricFamily]:
    admitted = GaugeMetricFamily("coupon_admitted", "Tickets that the gate holds", labels=["campaign"])
    pending = GaugeMetricFamily("coupon_pending", "Tickets without a row in PostgreSQL", labels=["campaign"])
    stale = GaugeMetricFamily(
        "coupon_stale", "1 = Redis's state is not current, no user is admitted", labels=["campaign"]
    )
    admission_redis().ping()  # fails without Redis even when there is no campaign
    for campaign_id, description in describe_each(_loaded()).items():
        label = [str(campaign_id)]
        stale.add_metric(label, not isinstance(description, Description))
        if isinstance(description, Description):
            admitted.add_metric(label, description.admitted)
            pending.add_metric(label, description.pending)
    return [admitted, pending, stale]


def _loaded() -> dict[UUID, int]:
    """Returns the epochs of the campaigns that Redis should have; without PostgreSQL, those in the campaign cache."""
    try:
        return {campaign.pk: campaign.epoch for campaign in _campaigns() if campaign.is_loaded}
    except DATABASE_DOWN:
        return dict(islice(campaign_cache().loaded().items(), MAX_CAMPAIGNS))


def _from_kafka() -> Iterable[GaugeMetricFamily]:
    """Yields no lag without PostgreSQL, which has the read offsets."""
    lag = GaugeMetricFamily("coupon_consumer_lag", "Messages that the consumers have not read", labels=["partition"])
    partition_count()
    try:
        lags = partition_lags()
    except DATABASE_DOWN:
        return []
    for partition, offsets in lags.items():
        lag.add_metric([str(partition)], offsets.lag)
    return [lag]


def _campaigns() -> list[Campaign]:
    return list(Campaign.objects.exclude(state=CampaignState.DRAFT)[:MAX_CAMPAIGNS])
