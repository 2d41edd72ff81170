"""Row 33: the wall clock of Redis's host is set back by minutes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import pause_campaign, resume_campaign
from coupons.models import FailEventHistory
from tests.support import faketime
from tests.support.matrix import MANY, Row
from tests.support.promises import assert_history_holds, change_quantity
from tests.support.service import Service
from tests.support.tickets import admit

MINUTES_BACK = -300.0


@pytest.fixture
def clock(service: Service, tmp_path: Path) -> Iterator[Path]:
    """The clock of the stack's Redis, for `faketime.step`."""
    file = tmp_path / "clock"
    service.stack("stop", "redis")
    service.stack("start", "redis", **faketime.environment(file))
    yield file
    service.stack("stop", "redis")
    service.stack("start", "redis")


def test_changes_stay_in_force_when_the_clock_steps_back(service: Service, clock: Path) -> None:
    """After a raise, after a resume; and a ticket of before the step that nobody published is published."""
    service.everything()
    campaign = service.campaign(100, opens_at=datetime.now(UTC) - timedelta(hours=1))
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(33, crowd)
    crowd.wait_for_answers(409, "sold-out", times=20)
    change_quantity(crowd, campaign, 5_000)
    admit(campaign, "of-before-the-step")

    with row.fault("redis: its clock steps back by 5 minutes after a raise"):
        before = admission_redis().time()[0]
        faketime.step(clock, MINUTES_BACK)
        assert admission_redis().time()[0] < before - 200
        crowd.wait_for_promises("by the clock that was set back", users=20)
    row.wait_for_promises(users=50)
    pause_campaign(campaign_id=campaign.pk, actor="test")
    crowd.wait_for_answers(409, "paused")
    resume_campaign(campaign_id=campaign.pk, actor="test")
    with row.fault("redis: its clock steps back by 5 minutes more after a resume"):
        faketime.step(clock, 2 * MINUTES_BACK)
        crowd.wait_for_promises("by the clock that was set back again", users=20)
    row.wait_for_promises(users=50)

    assert_history_holds(crowd, campaigns=[campaign], untracked=1)
    assert not FailEventHistory.objects.exists()
    row.write()
