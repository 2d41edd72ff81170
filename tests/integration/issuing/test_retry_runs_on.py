"""A run over many failed events: what is wrong with one row, or with one campaign, costs no other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from django.conf import LazySettings
from django.db import connection

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.errors import StateStale
from coupons.issuing.retry import RetryReport, retry_due_events, retry_events_now
from coupons.models import AuditEntry, Campaign, EventStatus, FailAttempt, FailCode, FailEventHistory
from tests.support.gate import damage_keys
from tests.support.service import Service
from tests.support.tickets import admit, consume, held, insert_coupons, issued_users, rebuild, received

USERS = [f"u{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def _due_at_once(settings: LazySettings) -> None:
    settings.RETRY_BASE_DELAY_SEC = 0
    settings.RETRY_MAX_ATTEMPTS = 3


def failed(service: Service, users: Sequence[str] = USERS) -> Campaign:
    """A campaign whose users are in, and whose coupons PostgreSQL refused for a reason that has passed."""
    campaign = service.campaign(100)
    sequences = admit(campaign, *users)
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=100)
    first = FailEventHistory.objects.count()
    messages = [
        received(campaign, user, sequence, offset=first + sequence)
        for user, sequence in zip(users, sequences, strict=True)
    ]
    assert consume(*messages).failed == len(users)
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=0)
    return campaign


@contextmanager
def refused_at_the_commit(user_id: str) -> Iterator[None]:
    """As by a constraint that is checked there: the statement goes through, the transaction as a whole does not."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation';
            END $$
            """
        )
        cursor.execute(
            f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON coupons_coupon DEFERRABLE INITIALLY DEFERRED "
            f"FOR EACH ROW WHEN (NEW.user_id = '{user_id}') EXECUTE FUNCTION refuse()"
        )
        try:
            yield
        finally:
            cursor.execute("DROP TRIGGER refuse ON coupons_coupon; DROP FUNCTION refuse()")


def run(limit: int = 1_000) -> RetryReport:
    return retry_due_events(limit=limit, actor="test")


def statuses() -> dict[str, str]:
    return dict(FailEventHistory.objects.values_list("user_id", "event_status"))


def test_each_row_is_settled_with_its_own_attempt(service: Service) -> None:
    campaign = failed(service)

    assert run() == RetryReport(succeeded=40)

    assert set(issued_users(campaign)) == set(USERS)
    assert set(statuses().values()) == {EventStatus.SUCCESS}
    tried = FailAttempt.objects.values_list("event__user_id", "actor", "error_code")
    assert sorted(tried) == sorted((user, "test", "") for user in USERS)
    assert not any(ticket.pending for ticket in held(campaign, *USERS).values())


def test_a_row_that_fails_again_does_not_stop_the_others(service: Service) -> None:
    campaign = failed(service)
    insert_coupons(campaign, [("u7", 90), ("thief", 13)])
    FailEventHistory.objects.filter(user_id="u20").update(campaign=None)

    assert run(limit=40) == RetryReport(succeeded=37, failed=3)

    reasons = dict(FailAttempt.objects.exclude(error_code="").values_list("event__user_id", "error_message"))
    assert set(reasons) == {"u7", "u12", "u20"}
    assert "sequence 90" in reasons["u7"]
    assert "coupon_one_per_sequence" in reasons["u12"]
    assert "names no ticket" in reasons["u20"]
    codes = dict(FailEventHistory.objects.filter(event_status="FAIL").values_list("user_id", "error_code"))
    assert codes == {"u7": FailCode.CONFLICT, "u12": FailCode.CONFLICT, "u20": FailCode.QUANTITY_EXCEEDED}


def test_a_row_refused_at_the_commit_costs_no_other(service: Service) -> None:
    campaign = failed(service)

    with refused_at_the_commit("u7"):
        assert run(limit=40) == RetryReport(succeeded=39, failed=1)

    event = FailEventHistory.objects.get(event_status=EventStatus.FAIL)
    assert (event.user_id, event.error_code, event.attempts) == ("u7", FailCode.DATABASE_REFUSED, 1)
    assert "not this one" in FailAttempt.objects.get(event=event).error_message
    assert "u7" not in issued_users(campaign)
    assert FailAttempt.objects.count() == 40
    assert run() == RetryReport(succeeded=1)


def test_rows_taken_by_another_run_are_left_to_it(service: Service) -> None:
    campaign = failed(service)
    taken = ["u3", "u4"]

    class TakeOver:
        """Another run takes two rows up after they were claimed."""

        def __call__(self, execute, sql, params, many, context):  # type: ignore[no-untyped-def]
            if 'AS "a" FROM "coupons_faileventhistory"' in sql:
                FailEventHistory.objects.filter(user_id__in=taken, event_status="PROCESSING").update(attempts=7)
            return execute(sql, params, many, context)

    with connection.execute_wrapper(TakeOver()):
        assert run(limit=40) == RetryReport(succeeded=38, lost=2)

    assert set(issued_users(campaign)) == set(USERS) - set(taken)
    assert FailAttempt.objects.count() == 38
    assert {statuses()[user] for user in taken} == {EventStatus.PROCESSING}


EARLY, LATE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)


def not_current(campaign: Campaign) -> Campaign:
    Campaign.objects.filter(pk=campaign.pk).update(epoch=9)
    return campaign


def due(campaign: Campaign, at: datetime) -> None:
    FailEventHistory.objects.filter(campaign=campaign).update(next_attempt_at=at)


@contextmanager
def lost_before_the_commit(campaign: Campaign) -> Iterator[None]:
    """Redis loses its state, when it has been asked and before PostgreSQL commits what came of it."""

    def lose(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith("UPDATE") and EventStatus.SUCCESS in params:
            admission_redis().delete(campaign_keys(campaign.pk).campaign)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(lose):
        yield


@pytest.mark.parametrize("stale_due", [EARLY, LATE], ids=["due first", "due last"])
def test_a_stale_campaign_holds_no_other_up(service: Service, stale_due: datetime) -> None:
    healthy, stale = failed(service, USERS[:20]), not_current(failed(service, USERS[20:]))
    due(stale, stale_due)
    due(healthy, LATE if stale_due is EARLY else EARLY)

    with pytest.raises(StateStale, match=f"campaign {stale.pk}: .* Of the others: 20 succeeded, 0 failed again"):
        run()

    assert set(issued_users(healthy)) == set(USERS[:20])
    rows = FailEventHistory.objects.filter(campaign=stale).values_list("event_status", "attempts", "next_attempt_at")
    assert set(rows) == {(EventStatus.FAIL, 0, stale_due)}


def test_damaged_keys_of_a_campaign_hold_no_other_up(service: Service) -> None:
    healthy, damaged = failed(service, USERS[:20]), failed(service, USERS[20:])
    damage_keys(damaged)
    due(damaged, EARLY)
    due(healthy, LATE)

    with pytest.raises(StateStale, match=f"campaign {damaged.pk}: .*WRONGTYPE.* Of the others: 20 succeeded, 0 failed"):
        run()

    assert set(issued_users(healthy)) == set(USERS[:20])
    rows = FailEventHistory.objects.filter(campaign=damaged).values_list("event_status", "attempts")
    assert set(rows) == {(EventStatus.FAIL, 0)}


def test_nor_does_one_that_is_lost_while_it_is_retried(service: Service, settings: LazySettings) -> None:
    healthy, lost = failed(service, USERS[:20]), failed(service, USERS[20:])
    due(lost, EARLY)
    settings.RETRY_BASE_DELAY_SEC = 60

    with (
        refused_at_the_commit("u7"),
        lost_before_the_commit(lost),
        pytest.raises(StateStale, match="Of the others: 20 succeeded, 1 failed again"),
    ):
        run(limit=40)

    assert set(issued_users(healthy)) == set(USERS[:20]) - {"u7"}
    assert len(issued_users(lost)) == 1, "the one whose transaction was under way"
    rows = FailEventHistory.objects.filter(campaign=lost).exclude(event_status=EventStatus.SUCCESS)
    assert set(rows.values_list("event_status", "attempts")) == {(EventStatus.FAIL, 0)}


def test_an_operator_retry_does_all_that_can_be_done(service: Service) -> None:
    healthy, stale = failed(service, USERS[:20]), not_current(failed(service, USERS[20:]))
    ids = list(FailEventHistory.objects.values_list("pk", flat=True))

    with pytest.raises(StateStale, match="Of the others: 20 succeeded"):
        retry_events_now(event_ids=ids, actor="kim")

    assert set(issued_users(healthy)) == set(USERS[:20])
    assert set(FailEventHistory.objects.filter(campaign=stale).values_list("event_status", "attempts")) == {
        (EventStatus.FAIL, 0)
    }


def test_a_campaign_lost_after_the_commit_is_still_done(service: Service) -> None:
    campaign = failed(service, USERS[:1])

    with lost_before_the_commit(campaign):
        assert run() == RetryReport(succeeded=1)

    assert set(statuses().values()) == {EventStatus.SUCCESS}
    rebuild(campaign)
    assert not held(campaign, *USERS)[USERS[0]].pending


def test_a_stop_is_heard_after_each_row(service: Service) -> None:
    failed(service)
    answers = iter([False, False, True])

    report = retry_due_events(limit=100, actor="test", stop=lambda: next(answers))

    assert report == RetryReport(succeeded=2)
    assert list(statuses().values()).count(EventStatus.FAIL) == 38


def test_an_operator_decision_is_recorded_for_each_row(service: Service) -> None:
    campaign = failed(service, USERS[:3])
    insert_coupons(campaign, [("u1", 90)])
    ids = list(FailEventHistory.objects.order_by("sequence").values_list("pk", flat=True))

    report = retry_events_now(event_ids=ids, actor="kim", reason="rebuilt")

    assert report == RetryReport(succeeded=2, failed=1)
    noted = {
        entry.object_id: (entry.actor, entry.what, entry.reason) for entry in AuditEntry.objects.filter(actor="kim")
    }
    assert noted == {
        str(ids[0]): ("kim", "Retried now: issued", "rebuilt"),
        str(ids[1]): ("kim", "Retried now: conflict again", "rebuilt"),
        str(ids[2]): ("kim", "Retried now: issued", "rebuilt"),
    }


def test_a_decision_about_no_rows_is_nothing(service: Service) -> None:
    assert retry_events_now(event_ids=[], actor="kim") == RetryReport()
