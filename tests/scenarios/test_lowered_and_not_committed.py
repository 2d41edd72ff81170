"""Row 32: an operator lowers the quantity and PostgreSQL does not commit it. Until that is known users are told "not
now", and never "sold out"."""

import signal

import pytest
from django.db import connection, transaction

from coupons.admission import campaign_store
from coupons.models import Campaign
from coupons.runtime.failpoints import PUSH_LOWERED
from faults.crowd import Crowd
from tests.support.matrix import MANY, Row
from tests.support.process import Process
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.sessions import cancel_who_waits_for
from tests.support.timeouts import LONG_TIMEOUTS

QUANTITY = 2_000
ROOM = 300  # users who may still get in by the lower quantity: more than come while the command starts
AFTERWARDS = 60
PATIENT_WITH_LOCKS = {"COUPON_DB_STATEMENT_TIMEOUT_MS": "120000"}  # half of it for a lock


def test_a_lower_that_gives_up_on_a_locked_table(service: Service) -> None:
    """No keeper runs: the process that lowered takes it back. Its wait for the lock ends when users have been told."""
    service.web(**LONG_TIMEOUTS)
    service.consumer("--solo")
    campaign, crowd = campaign_and_crowd(service)
    row = Row(32, crowd, name="locked")

    with row.fault("postgres: LOCK TABLE coupons_auditentry until the lowering gives up"), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE coupons_auditentry IN ACCESS EXCLUSIVE MODE")
        lowering = lower(service, campaign, **PATIENT_WITH_LOCKS)
        crowd.wait_for_answers(409, "paused")
        cancel_who_waits_for("coupons_auditentry")
        assert lowering.wait() != 0
    row.wait_for_promises(users=AFTERWARDS)

    assert_nothing_was_lowered(crowd, campaign)
    row.write()


def test_whoever_lowers_is_killed_before_the_commit(service: Service) -> None:
    service.web(**LONG_TIMEOUTS)
    service.consumer("--solo")
    campaign, crowd = campaign_and_crowd(service)
    row = Row(32, crowd, name="killed")

    with row.fault("operator's command: SIGKILL at push.lowered; the keeper starts later"):
        service.arm(PUSH_LOWERED, "kill")
        assert lower(service, campaign).wait() == -signal.SIGKILL
        crowd.wait_for_answers(409, "paused")
        service.keeper().says("campaign.pushed_again")
    row.wait_for_promises(users=AFTERWARDS)

    assert_nothing_was_lowered(crowd, campaign)
    row.write()


# The command gives up soon.
ENDS_ITS_WAITS = {"COUPON_DB_STATEMENT_TIMEOUT_MS": "1500"}


@pytest.mark.parametrize(("away", "back"), [("pause", "resume"), ("kill", "start")])
def test_postgresql_goes_away_before_the_commit(service: Service, away: str, back: str) -> None:
    service.web(**LONG_TIMEOUTS)
    service.consumer("--solo")
    service.keeper()
    campaign, crowd = campaign_and_crowd(service)
    row = Row(32, crowd, name=away)

    with row.fault(f"postgres: {'SIGSTOP' if away == 'pause' else 'SIGKILL'} at push.lowered"):
        service.arm(PUSH_LOWERED, "stop")
        lowering = lower(service, campaign, **ENDS_ITS_WAITS)
        service.wait_for(PUSH_LOWERED)
        service.stack(away, "postgres")
        service.resume(PUSH_LOWERED)
        crowd.wait_for_answers(409, "paused")
        assert lowering.wait() != 0
        service.stack(back, "postgres")
    row.wait_for_promises(users=AFTERWARDS)

    assert_nothing_was_lowered(crowd, campaign)
    row.write()


def campaign_and_crowd(service: Service) -> tuple[Campaign, Crowd]:
    campaign = service.campaign(QUANTITY)
    crowd = service.crowd(campaign, habits=MANY)
    crowd.wait_for_promises("before", users=50)
    return campaign, crowd


def lower(service: Service, campaign: Campaign, **more: str) -> Process:
    """A command that lowers the quantity to a few more than are in."""
    in_now = campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch).admitted
    return service.manage("change_campaign", str(campaign.pk), "--quantity", str(in_now + ROOM), **more)


def assert_nothing_was_lowered(crowd: Crowd, campaign: Campaign) -> None:
    assert_history_holds(crowd, campaigns=[campaign])
    campaign.refresh_from_db()
    assert campaign.quantity == QUANTITY
    assert crowd.answers[409, "sold-out"] == 0
