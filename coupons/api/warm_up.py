"""What a web process does before it serves its first request."""

import logging

from django.conf import settings

from coupons.admission.campaign_cache import campaign_cache
from coupons.auth.api_key_cache import api_key_cache
from coupons.errors import RetryLater
from coupons.messaging.producer import publisher
from coupons.messaging.topics import partition_count

logger = logging.getLogger(__name__)


def warm_up() -> None:
    """Make this process's clients, and say what is missing. It serves all the same: a part may come up later, and until
    then the answers are 503."""
    campaign_cache()
    ready = publisher()
    api_key_cache()
    try:
        if partition_count() is None:
            logger.error("web.no_topic topic=%s: manage.py create_topic makes it", settings.TOPIC)
    except RetryLater as error:
        logger.warning("web.no_kafka error=%s", error)
        return
    if not ready.wait_until_ready(settings.KAFKA_REQUEST_TIMEOUT_MS / 1000):
        logger.warning("web.producer_not_ready after=%dms", settings.KAFKA_REQUEST_TIMEOUT_MS)
