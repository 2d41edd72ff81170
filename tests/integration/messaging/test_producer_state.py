"""What a producer says of itself when a broker does not answer."""

import pytest
from django.conf import LazySettings

from coupons.errors import LogUnavailable
from coupons.messaging import producer
from coupons.messaging.messages import Ticket
from coupons.messaging.producer import Publisher
from tests.support.service import Service
from tests.support.tickets import ticket
from tests.support.waiting import wait_until


def test_messages_that_nobody_acknowledged_are_told_of(
    service: Service, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DELIVERY_TIMEOUT_MS = 1_500
    campaign = service.campaign(10)
    publisher = wait_until(lambda: _publisher_that_is_answered(ticket(campaign, "a", 1)), what="the first message")

    with caplog.at_level("WARNING", logger=producer.__name__):
        service.stack("pause", "kafka")
        with pytest.raises(LogUnavailable):
            publisher.publish(ticket(campaign, "b", 2)).result(20)
        service.stack("resume", "kafka")

    (said,) = [record.getMessage() for record in caplog.records if "producer.refused" in record.message]
    assert said == "producer.refused count=1 error=Local: Message timed out"
    publisher.close()


def _publisher_that_is_answered(first: Ticket) -> Publisher | None:
    """Its first message has no longer than the one that is to fail; a busy broker may need more for a new topic."""
    made = Publisher()
    try:
        assert made.wait_until_ready(20)
        made.publish(first).result(10)
    except LogUnavailable:
        made.close()
        return None
    return made
