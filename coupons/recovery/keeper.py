"""Repairs what it finds every two seconds: id sequences that lag, logs that were cut, states to rebuild, operators'
changes to push again, tickets to relay.

Several keepers may run: the rebuild and the relay take advisory locks, and a push is idempotent by revision. When a
part is down, a round does what the other parts allow, and logs the outage once, not every two seconds.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from django.db import close_old_connections, connection

from coupons.admission.campaign_store import describe_each
from coupons.campaigns.redis_sync import is_in_sync, push_again
from coupons.errors import DATABASE_DOWN, RetryLater, StateStale, UnknownMessageKey, one_line
from coupons.models import Campaign
from coupons.recovery.rebuild import rebuild_campaigns
from coupons.recovery.relay import relay_pending
from coupons.recovery.stale import stale_campaigns
from coupons.recovery.unknown_keys import find_blocked_campaigns
from coupons.runtime.heartbeats import KEEPER, Pulse
from coupons.runtime.id_sequences import heal_id_sequences

logger = logging.getLogger(__name__)


class Keeper:
    def __init__(self, *, interval_sec: float, stop: threading.Event) -> None:
        self._interval_sec = interval_sec
        self._stop = stop
        self._failing_steps: dict[str, str] = {}
        self._pulse = Pulse(KEEPER)

    def run(self) -> None:
        while not self._stop.is_set():
            self.round()
            self._stop.wait(self._interval_sec)

    def round(self) -> bool:
        """Returns True when every step succeeded. The rebuild comes before the steps that a stale state would stop."""
        close_old_connections()
        steps: list[tuple[str, Callable[[], object]]] = [
            ("id_sequences", heal_id_sequences),
            ("rebuild", self._rebuild_stale),
            ("push", _push_again),
            ("relay", relay_pending),
            ("heartbeat", self._pulse.beat_if_due),  # last: it tells that the round has ended
        ]
        outcomes = [self._attempt(name, step) for name, step in steps]
        return all(outcomes)

    def _rebuild_stale(self) -> None:
        stale = stale_campaigns(skip_opening=True)
        refused: dict[UUID, UnknownMessageKey] = {}
        if self._failing_steps.get("rebuild") == UnknownMessageKey.__name__:
            # Check before taking the lock and raising an epoch: an operator may run the same rebuild.
            refused = find_blocked_campaigns(stale)
        if ready := [campaign_id for campaign_id in stale if campaign_id not in refused]:
            rebuild_campaigns(campaign_ids=ready, only_stale=True)
        for error in refused.values():
            raise error

    def _attempt(self, name: str, step: Callable[[], object]) -> bool:
        try:
            step()
        except (RetryLater, *DATABASE_DOWN) as error:
            reason = one_line(error)
            if self._failing_steps.get(name) != type(error).__name__:
                logger.warning("keeper.waiting step=%s error=%s", name, reason)
            self._failing_steps[name] = type(error).__name__
            if isinstance(error, DATABASE_DOWN):
                connection.close()  # a session that began read-only stays read-only when the server no longer is
            return False
        if self._failing_steps.pop(name, None):
            logger.info("keeper.recovered step=%s", name)
        return True


def _push_again() -> None:
    """Compares without a lock first: a locked row stops the consumers of its campaign."""
    campaigns = list(Campaign.objects.filter(epoch__gt=0).defer("log_ends"))
    described = describe_each({campaign.pk: campaign.epoch for campaign in campaigns})
    for campaign in campaigns:
        description = described[campaign.pk]
        # The rebuild handles a stale campaign, and takes over PostgreSQL's settings.
        if not isinstance(description, StateStale) and not is_in_sync(campaign, description):
            with suppress(StateStale):
                push_again(campaign.pk)
