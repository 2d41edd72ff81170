"""A Redis that answered after the deadline: nothing is published any more, and the repeat gets the same place."""

import time
from typing import Any

import pytest
from django.conf import LazySettings

from coupons.admission.admit import admit
from coupons.api import accept as accepting
from coupons.errors import Unconfirmed
from coupons.messaging.producer import publisher
from tests.support.service import Service
from tests.support.topic import published_users


def test_after_the_deadline_nothing_is_published_and_the_repeat_gets_the_place(
    service: Service, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = service.campaign(10)
    settings.ACCEPT_TIMEOUT_MS = 1_500

    def slow(**asked: Any) -> Any:
        answer = admit(**asked)
        time.sleep(1.6)
        return answer

    monkeypatch.setattr(accepting, "admit", slow)
    with pytest.raises(Unconfirmed, match="too late"):
        accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    monkeypatch.undo()
    publisher().flush(5)
    assert published_users() == set()

    again = accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    assert again is not None
    assert again.ticket is not None
    assert again.ticket.sequence == 1
    assert published_users() == {"a"}
