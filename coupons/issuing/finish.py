"""The statements of a retry, each for a whole batch of failed events: claim them, finish them, give them back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet

from coupons.issuing.arrays import array, quoted_array
from coupons.issuing.backoff import retry_delay_sec
from coupons.models import EventStatus, FailAttempt, FailCode, FailEventHistory


class ClaimedEvent(NamedTuple):
    """What a retry needs of a row. `attempts` counts the one under way; `due_at` is PostgreSQL's text of
    `next_attempt_at` as it was before the claim."""

    pk: int
    campaign_id: UUID | None
    user_id: str
    sequence: int | None
    error_code: str
    attempts: int
    due_at: str | None


class Outcome(NamedTuple):
    """No code: the coupon is there."""

    event: ClaimedEvent
    code: FailCode | None
    reason: str


_EVENTS, _ATTEMPTS = (connection.ops.quote_name(model._meta.db_table) for model in (FailEventHistory, FailAttempt))
# The number of attempts tells whether a row is still this run's: another one that takes it up raises it. The status is
# a column, and the CTE materialized, so that PostgreSQL does not look for PROCESSING in its statistics: none was there
# when they were made, so it would begin with "the one such row" and go through the whole batch for each of them.
_MINE = "e.id = o.event_id AND e.event_status = o.claimed_as AND e.attempts = o.attempts"
_CLAIM = f"""
WITH chosen (event_id, due_at) AS MATERIALIZED ({{chosen}})
UPDATE {_EVENTS} AS e SET
    event_status = '{EventStatus.PROCESSING}', attempts = e.attempts + 1,
    next_attempt_at = now() + make_interval(secs => %s), updated_at = now()
FROM chosen WHERE e.id = chosen.event_id
RETURNING e.id, e.campaign_id::text, e.user_id, e.sequence, e.error_code, e.attempts, chosen.due_at::text
"""  # noqa: S608  no value of anybody's in it, and what takes the braces' place is Django's
_FINISH = f"""
WITH outcome AS MATERIALIZED (
    SELECT *, '{EventStatus.PROCESSING}'::text AS claimed_as
    FROM unnest(%s::bigint[], %s::int[], %s::text[], %s::text[], %s::float8[])
        AS o(event_id, attempts, code, reason, delay_sec)
), finished AS (
    UPDATE {_EVENTS} AS e SET
        event_status = CASE o.code WHEN '' THEN '{EventStatus.SUCCESS}' ELSE '{EventStatus.FAIL}' END,
        error_code = CASE o.code WHEN '' THEN e.error_code ELSE o.code END,
        next_attempt_at = now() + make_interval(secs => o.delay_sec),
        updated_at = now()
    FROM outcome AS o WHERE {_MINE}
    RETURNING o.event_id, o.code, o.reason
)
INSERT INTO {_ATTEMPTS} (event_id, started_at, actor, error_code, error_message)
SELECT event_id, %s, %s, code, reason FROM finished
"""  # noqa: S608  no value of anybody's in it
_RELEASE = f"""
WITH claimed AS MATERIALIZED (
    SELECT *, '{EventStatus.PROCESSING}'::text AS claimed_as
    FROM unnest(%s::bigint[], %s::int[], %s::text[]) AS o(event_id, attempts, due_at)
)
UPDATE {_EVENTS} AS e SET
    event_status = '{EventStatus.FAIL}', attempts = e.attempts - 1, next_attempt_at = o.due_at::timestamptz,
    updated_at = now()
FROM claimed AS o WHERE {_MINE}
"""  # noqa: S608


def claim_events(chosen: QuerySet[FailEventHistory]) -> list[ClaimedEvent]:
    """Make these rows PROCESSING, with a lease, unless another transaction has its hands on them. Needs a transaction.

    From its commit on no other run takes them until the lease ends.
    """
    free = chosen.select_for_update(skip_locked=True, no_key=True).values_list("pk", "next_attempt_at")
    try:
        sql, parameters = free.query.sql_with_params()
    except EmptyResultSet:  # an empty list of ids
        return []
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM.format(chosen=sql), [*parameters, settings.RETRY_LEASE_SEC])
        rows = cursor.fetchall()
    campaigns = {text: UUID(text) for text in {row[1] for row in rows} if text is not None}
    return [ClaimedEvent(row[0], campaigns.get(row[1]), *row[2:]) for row in rows]


def finish_events(outcomes: Sequence[Outcome], *, started_at: datetime, actor: str) -> int:
    """Move the rows that are still this run's out of PROCESSING and note an attempt of each; returns how many."""
    columns = [
        array(str(outcome.event.pk) for outcome in outcomes),
        array(str(outcome.event.attempts) for outcome in outcomes),
        quoted_array(outcome.code or "" for outcome in outcomes),
        quoted_array(outcome.reason for outcome in outcomes),
        array(_delay(outcome) for outcome in outcomes),
    ]
    with connection.cursor() as cursor:
        cursor.execute(_FINISH, [*columns, started_at, actor])
        return int(cursor.rowcount)


def release_events(events: Sequence[ClaimedEvent]) -> None:
    """Give back untried those that are still this run's: due as before, and no attempt counted."""
    columns: list[Any] = [
        [event.pk for event in events],
        [event.attempts for event in events],
        [event.due_at for event in events],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, columns)


def _delay(outcome: Outcome) -> str:
    """In seconds; NULL where the scheduled retry does not come back to it."""
    code, attempts = outcome.code, outcome.event.attempts
    if code is None or not code.retried_by_itself or attempts >= settings.RETRY_MAX_ATTEMPTS:
        return "NULL"
    return repr(retry_delay_sec(attempts))
