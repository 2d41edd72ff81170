"""Compares Redis and the topic (temporary_tables.py) with the rows of PostgreSQL: one query for each difference.

`ENTRIES` joins all sources in one statement, so it reads coupons and failed events at one moment, later than the
tickets. Each user and sequence that a source names becomes a row of `entry`, and the queries read that table.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import islice
from typing import Final, NamedTuple

from django.conf import settings
from django.db.models import Count, Q
from django.db.models.functions import Now

from coupons.admission.campaign_store import Description
from coupons.campaigns.redis_sync import settings_of
from coupons.messaging.positions import PARTITION_STEP
from coupons.messaging.topics import PartitionLag
from coupons.models import HELD_CODES, Campaign
from coupons.reconciliation.differences import Kind
from coupons.reconciliation.ledger import Ledger
from coupons.reconciliation.lives import compare_lives, read_lives
from coupons.reconciliation.second_look import SecondLook, Suspect
from coupons.reconciliation.temporary_tables import TemporaryTables

SUSPECTS_AT_ONCE = 1_000

ENTRIES: Final = """
INSERT INTO entry
SELECT user_id, sequence,
    bool_or(source = 'ticket'), bool_or(source = 'coupon'),
    bool_or(source IN ('failed', 'refused', 'succeeded')), bool_or(source = 'failed'), bool_or(source = 'succeeded'),
    bool_or(source IN ('read', 'unread', 'late')), bool_or(source IN ('unread', 'late')), bool_or(source = 'unread'),
    bool_or(bool_or(source = 'ticket')) OVER of_user,
    sum(count(*) FILTER (WHERE source = 'coupon')) OVER of_user,
    max(max(score)) OVER of_user
FROM (
    SELECT user_id, sequence, 'ticket' AS source, NULL AS score FROM ticket
    UNION ALL SELECT user_id, NULL, 'pending', score FROM pending
    UNION ALL SELECT user_id, sequence, state, NULL FROM message WHERE campaign_id = %(campaign)s
    UNION ALL SELECT user_id COLLATE "C", sequence, 'coupon', NULL FROM coupons_coupon WHERE campaign_id = %(campaign)s
    UNION ALL SELECT user_id COLLATE "C", sequence,
        CASE WHEN event_status = 'SUCCESS' THEN 'succeeded'
            WHEN error_code = ANY (%(held_codes)s) THEN 'failed' ELSE 'refused' END, NULL
        FROM coupons_faileventhistory
        WHERE campaign_id = %(campaign)s AND user_id <> '' AND sequence IS NOT NULL
    ORDER BY user_id, sequence -- sorted once, for the groups and for the window
) AS said
GROUP BY user_id, sequence
WINDOW of_user AS (PARTITION BY user_id)
"""

# tickets, issued, failed, pending, lowest and highest sequence; unread; the highest sequence of any ticket or row
NUMBERS: Final = """
SELECT count(*), count(*) FILTER (WHERE coupons > 0), count(*) FILTER (WHERE failed AND coupons = 0),
    count(*) FILTER (WHERE score IS NOT NULL AND NOT failed AND coupons = 0), min(sequence), max(sequence),
    (SELECT count(*) FROM entry WHERE unread),
    (SELECT coalesce(max(sequence), 0) FROM entry WHERE ticket OR coupon OR failed)
FROM entry WHERE ticket
"""

# Each row is an example, and needs no second look.
EXAMPLES: Final = {
    Kind.STUCK_PROCESSING: """
SELECT user_id || ' #' || sequence FROM coupons_faileventhistory
WHERE campaign_id = %(campaign)s AND event_status = 'PROCESSING' AND next_attempt_at < now()
    AND user_id <> '' AND sequence IS NOT NULL
""",
    Kind.USER_TWICE: """
SELECT DISTINCT user_id || ': ' || coupons || ' coupons' FROM entry WHERE coupon AND coupons > 1
""",
    Kind.SEQUENCE_TWICE: """
SELECT '#' || sequence || ' of ' || min(user_id) || ' and ' || max(user_id) FROM entry WHERE ticket OR coupon
GROUP BY sequence HAVING count(*) > 1
""",
    Kind.OTHER_SEQUENCE: """
SELECT user_id || ' ticket #' || held.sequence || ', coupon #' || min(issued.sequence)
FROM entry AS held JOIN entry AS issued USING (user_id)
WHERE held.ticket AND NOT held.coupon AND held.coupons > 0 AND issued.coupon
GROUP BY user_id, held.sequence
""",
}
HOLES: Final = """
SELECT '#' || before + 1 || CASE WHEN sequence > before + 2 THEN ' to #' || sequence - 1 ELSE '' END
FROM (
    SELECT sequence, lag(sequence, 1, 0::bigint) OVER (ORDER BY sequence) AS before
    FROM (
        SELECT sequence FROM entry WHERE ticket OR coupon OR failed UNION ALL SELECT %(next_sequence)s
    ) AS held
    WHERE sequence BETWEEN 1 AND %(next_sequence)s
) AS neighbours
WHERE sequence > before + 1 ORDER BY sequence
"""


class Check(NamedTuple):
    """Pairs the condition for a kind's suspects with the second look, which is True for a real difference."""

    kind: Kind
    condition: str
    still: Callable[[SecondLook, Suspect], bool]


_UNWRITTEN = "ticket AND coupons = 0 AND NOT failed"
_NEITHER = "NOT ticket AND NOT coupon AND NOT event"
_IS_OLD = "(score < %(young_from)s OR score >= %(first_position)s)"
CHECKS: Final = (
    # Tickets without a row.
    Check(Kind.LOST, f"{_UNWRITTEN} AND score IS NULL", SecondLook.is_lost),
    Check(Kind.UNWRITTEN, f"{_UNWRITTEN} AND score IS NOT NULL AND message AND NOT unread", SecondLook.is_stuck),
    Check(Kind.UNPUBLISHED, f"{_UNWRITTEN} AND NOT message AND {_IS_OLD}", SecondLook.is_stuck),
    Check(Kind.STALE_PENDING, "ticket AND score IS NOT NULL AND (coupons > 0 OR failed)", SecondLook.is_settled_late),
    Check(Kind.PENDING_WITHOUT_TICKET, "sequence IS NULL AND NOT admitted", SecondLook.is_not_admitted),
    # Rows and messages without a ticket.
    Check(Kind.NEVER_ADMITTED, "coupon AND NOT admitted", SecondLook.is_not_held),
    Check(Kind.FAILED_WITHOUT_TICKET, "failed AND NOT ticket AND coupons = 0", SecondLook.is_not_held),
    Check(Kind.NOT_HELD, f"in_time AND {_NEITHER}", SecondLook.has_no_trace),
    Check(Kind.UNRECORDED, f"message AND NOT unread AND {_NEITHER}", SecondLook.has_no_trace),
    Check(Kind.SUCCESS_WITHOUT_COUPON, "succeeded AND NOT coupon", SecondLook.has_no_coupon),
)
# A suspect that proves to be no difference arrived during the reading, and raises these numbers.
CAME_LATER: Final = {
    Kind.LOST: ("pending",),
    Kind.NEVER_ADMITTED: ("tickets", "issued"),
    Kind.FAILED_WITHOUT_TICKET: ("tickets", "failed"),
}


class Comparison:
    """Compares one campaign whose tickets, pending users and messages are in the temporary tables.

    The caller takes `lags` before it reads any source, and `before` before it reads the tickets. Raises as
    `SecondLook` does.
    """

    def __init__(
        self, campaign: Campaign, tables: TemporaryTables, *, lags: Mapping[int, PartitionLag], before: Description
    ) -> None:
        self.ledger = Ledger(campaign.pk, campaign.name, campaign.quantity)
        self._campaign, self._tables, self._lags = campaign, tables, lags
        self._young_from_ms = before.now_ms - settings.RELAY_AFTER_MS
        self._values = {
            "campaign": campaign.pk,
            "held_codes": list(HELD_CODES),
            "young_from": self._young_from_ms,
            "first_position": PARTITION_STEP,
            "next_sequence": before.next_sequence,
        }
        self._highest_sequence = 0

    def compare_entries(self) -> None:
        ledger = self.ledger
        self._tables.run("TRUNCATE entry, life")
        with self._tables.one_moment():  # or a coupon that is issued now would be in one of the two sums
            self._tables.run(ENTRIES, self._values)
            read_lives(self._tables, self._campaign.pk, ledger)
        ledger.tickets, ledger.issued, ledger.failed, ledger.pending, *others = self._tables.row(NUMBERS)
        ledger.first_sequence, ledger.last_sequence, ledger.unread, self._highest_sequence = others
        for check in CHECKS:
            self._look_again(check)
        # Only a rebuild may leave holes.
        holes = Kind.GAP if self._campaign.epoch > 1 else Kind.VANISHED
        for kind, query in (*EXAMPLES.items(), (holes, HOLES)):
            for (example,) in self._tables.rows(query, self._values):
                ledger.found(kind, example)
        compare_lives(self._tables, ledger)

    def _look_again(self, check: Check) -> None:
        query = f"SELECT user_id, coalesce(sequence, 0) FROM entry WHERE {check.condition}"  # noqa: S608  a constant
        suspects = map(Suspect._make, self._tables.rows(query, self._values))
        while chunk := list(islice(suspects, SUSPECTS_AT_ONCE)):
            now = SecondLook(self._campaign, chunk, lags=self._lags, young_from_ms=self._young_from_ms)
            for suspect in chunk:
                if check.still(now, suspect):
                    self.ledger.found(check.kind, str(suspect))
                else:
                    for number in CAME_LATER.get(check.kind, ()):
                        setattr(self.ledger, number, getattr(self.ledger, number) + 1)

    def compare_counts(self, after: Description) -> None:
        """Compares counts and settings. The caller takes `after` once the entries are compared."""
        ledger = self.ledger
        # One statement reads count, rows and quantity at one moment, later than the tickets.
        long_ago = Now() - timedelta(milliseconds=settings.RELAY_AFTER_MS)
        counted = Campaign.objects.annotate(rows=Count("coupons"), at_rest=Q(updated_at__lt=long_ago)).get(
            pk=self._campaign.pk
        )
        ledger.quantity, ledger.coupons = counted.quantity, counted.rows
        if counted.issued_count != counted.rows:
            ledger.found(Kind.COUNT_WRONG, f"issued_count {counted.issued_count}, coupons {counted.rows}")
        if max(ledger.tickets, counted.rows) > counted.quantity:
            text = f"{ledger.tickets} tickets, {counted.rows} coupons, quantity {counted.quantity}"
            ledger.found(Kind.BEYOND_QUANTITY, text)
        if after.next_sequence <= self._highest_sequence:
            ledger.found(Kind.REDIS_BEHIND, f"#{after.next_sequence} is next, #{self._highest_sequence} is held")
        if counted.at_rest and after.settings != settings_of(counted):
            revision = f"revision {after.settings.revision}, PostgreSQL {counted.revision}"
            ledger.found(Kind.SETTINGS_DIFFER, f"Redis has {revision}")
