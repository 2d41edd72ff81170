"""Repairs what it finds every two seconds: id sequences that lag, logs that were cut, states to rebuild, operators'
changes to push again, tickets to relay.

Several keepers may run: the rebuild and the relay take advisory locks, and a push is idempotent by revision. When a
part is down, a round does what the other parts allow, and logs the outage once, not every two seconds. A campaign that
fails for a reason of its own is logged once, too, and stops no other one.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from uuid import UUID

from django.db import close_old_connections, connection

from coupons.admission.campaign_store import describe_each
from coupons.admission.scripts import cluster_problem
from coupons.campaigns.redis_sync import is_in_sync, push_again
from coupons.errors import DATABASE_DOWN, GateUnavailable, RetryLater, StateStale, UnknownMessageKey, one_line
from coupons.models import LOADED, Campaign
from coupons.recovery.campaign_failures import CampaignFailures
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
        self._failing_campaigns: dict[str, dict[UUID, str]] = {}  # step -> campaign -> type of its error
        self._key_is_missing = False

    def run(self) -> None:
        while not self._stop.is_set():
            self.round()
            self._stop.wait(self._interval_sec)

    def round(self) -> bool:
        """Returns True when every step succeeded, for every campaign. The rebuild comes before the steps that a stale
        state would stop."""
        close_old_connections()
        steps: list[tuple[str, Callable[[CampaignFailures], object]]] = [
            ("id_sequences", lambda failures: heal_id_sequences()),
            ("redis", _refuse_cluster),
            ("rebuild", self._rebuild_stale),
            ("push", _push_again),
            ("relay", lambda failures: relay_pending(failures=failures)),
            # last: it tells that the round has ended
            ("heartbeat", lambda failures: self._pulse.beat_if_due()),
        ]
        outcomes = [self._attempt(name, step) for name, step in steps]
        return all(outcomes)

    def _rebuild_stale(self, failures: CampaignFailures) -> None:
        stale = stale_campaigns(skip_opening=True, failures=failures)
        if self._key_is_missing:
            # Check before taking the lock and raising an epoch: an operator may run the same rebuild.
            failures.errors |= find_blocked_campaigns(stale)
        if ready := [campaign_id for campaign_id in stale if campaign_id not in failures.errors]:
            rebuild_campaigns(campaign_ids=ready, only_stale=True, failures=failures)
        self._key_is_missing = bool(failures.unknown_keys)

    def _attempt(self, name: str, step: Callable[[CampaignFailures], object]) -> bool:
        failures = CampaignFailures()
        try:
            step(failures)
            self._log_campaigns(name, failures.errors)
            error = failures.summary
        except (RetryLater, *DATABASE_DOWN) as outage:
            error = outage
            if isinstance(outage, DATABASE_DOWN):
                connection.close()  # a session that began read-only stays read-only when the server no longer is
        if error is None:
            if self._failing_steps.pop(name, None):
                logger.info("keeper.recovered step=%s", name)
            return True
        if self._failing_steps.get(name) != type(error).__name__:
            logger.warning("keeper.waiting step=%s error=%s", name, one_line(error))
        self._failing_steps[name] = type(error).__name__
        return False

    def _log_campaigns(self, step: str, errors: Mapping[UUID, Exception]) -> None:
        """Logs each campaign that fails, apart from what the service does by itself or `keeper.waiting` explains."""
        before = self._failing_campaigns.get(step, {})
        failing = {
            campaign_id: type(error).__name__
            for campaign_id, error in errors.items()
            if not isinstance(error, (StateStale, UnknownMessageKey))
        }
        for campaign_id, kind in failing.items():
            error = errors[campaign_id]
            if before.get(campaign_id) != kind:
                defect = None if isinstance(error, (RetryLater, *DATABASE_DOWN)) else error
                text = "keeper.campaign_failed step=%s campaign=%s error=%s"
                logger.error(text, step, campaign_id, one_line(error), exc_info=defect)
        for campaign_id in before.keys() - failing.keys():
            logger.info("keeper.campaign_recovered step=%s campaign=%s", step, campaign_id)
        self._failing_campaigns[step] = failing


def _refuse_cluster(failures: CampaignFailures) -> None:
    """Redis was down when this process started: with a cluster it would not have. Other steps report outages."""
    problem = ""
    with suppress(GateUnavailable):
        problem = cluster_problem()
    if problem:
        raise GateUnavailable(problem)


def _push_again(failures: CampaignFailures) -> None:
    """Compares without a lock first: a locked row stops the consumers of its campaign."""
    campaigns = list(Campaign.objects.filter(LOADED).defer("log_ends"))
    described = describe_each({campaign.pk: campaign.epoch for campaign in campaigns})
    for campaign in campaigns:
        description = described[campaign.pk]
        if isinstance(description, GateUnavailable):
            failures.errors[campaign.pk] = description
        # The rebuild handles a stale campaign, and takes over PostgreSQL's settings.
        elif not isinstance(description, StateStale) and not is_in_sync(campaign, description):
            with failures.of(campaign.pk), suppress(StateStale):
                push_again(campaign.pk)
