"""What reconcile asks the books (books.py), each question one query. All but numbers give users and sequences. What is
plain (sieve.py) is counted already, and in the books only as runs of sequences.

`place` is a ticket with what else is known of its user: score (NULL = not pending), issued, failed.
"""

from typing import Final

UNACCOUNTED: Final = "FROM place WHERE NOT issued AND NOT failed"
ANY_MESSAGE: Final = "SELECT 1 FROM message WHERE message.user = place.user AND message.sequence = place.sequence"

# tickets, issued, failed, pending
NUMBERS: Final = """
SELECT count(*), sum(issued), sum(failed AND NOT issued), sum(NOT issued AND NOT failed AND score IS NOT NULL)
    FROM place
"""
# lowest and highest sequence, of all tickets
SPAN: Final = """
SELECT min(first), max(last) FROM (SELECT first, last FROM run UNION ALL SELECT sequence, sequence FROM ticket)
"""
UNREAD: Final = "SELECT count(*) FROM message WHERE unread"
HIGHEST: Final = """
SELECT max(highest) FROM (SELECT max(sequence) AS highest FROM ticket UNION ALL SELECT max(sequence) FROM coupon
    UNION ALL SELECT max(sequence) FROM event WHERE open AND held UNION ALL SELECT max(last) FROM run)
"""

LOST: Final = f"SELECT user, sequence {UNACCOUNTED} AND score IS NULL"
PENDING_AND_READ: Final = f"""
SELECT user, sequence {UNACCOUNTED} AND score IS NOT NULL AND EXISTS ({ANY_MESSAGE})
    AND NOT EXISTS ({ANY_MESSAGE} AND unread)
"""
PENDING_WITHOUT_MESSAGE: Final = f"""
SELECT user, sequence {UNACCOUNTED} AND (score < :latest OR score >= :positions) AND NOT EXISTS ({ANY_MESSAGE})
"""
WRITTEN_AND_PENDING: Final = "SELECT user, sequence FROM place WHERE score IS NOT NULL AND (issued OR failed)"
PENDING_WITHOUT_TICKET: Final = "SELECT user, 0 FROM pending WHERE user NOT IN (SELECT user FROM ticket)"

COUPON_WITHOUT_TICKET: Final = """
SELECT user, sequence FROM coupon WHERE NOT EXISTS (SELECT 1 FROM ticket WHERE ticket.user = coupon.user)
"""
FAILED_WITHOUT_TICKET: Final = """
SELECT DISTINCT user, sequence FROM event WHERE open AND held
    AND NOT EXISTS (SELECT 1 FROM ticket WHERE ticket.user = event.user AND ticket.sequence = event.sequence)
    AND NOT EXISTS (SELECT 1 FROM coupon WHERE coupon.user = event.user)
"""
NO_COUPON: Final = "NOT EXISTS (SELECT 1 FROM coupon WHERE coupon.user = {0}.user AND coupon.sequence = {0}.sequence)"
NO_TICKET: Final = "NOT EXISTS (SELECT 1 FROM ticket WHERE ticket.user = {0}.user AND ticket.sequence = {0}.sequence)"
NO_EVENT: Final = "NOT EXISTS (SELECT 1 FROM event WHERE event.user = {0}.user AND event.sequence = {0}.sequence)"
_WITHOUT_A_TRACE: Final = " AND ".join(each.format("message") for each in (NO_COUPON, NO_TICKET, NO_EVENT))
UNREAD_AND_NOT_HELD: Final = f"""
SELECT user, sequence FROM message WHERE unread_in_time AND {_WITHOUT_A_TRACE}
"""
READ_WITHOUT_A_TRACE: Final = f"""
SELECT user, sequence FROM message WHERE NOT unread AND {_WITHOUT_A_TRACE}
"""
SUCCESS_WITHOUT_COUPON: Final = (
    f"SELECT DISTINCT user, sequence FROM event WHERE NOT open AND {NO_COUPON.format('event')}"
)
STUCK: Final = "SELECT user, sequence FROM event WHERE stuck"

USER_TWICE: Final = "SELECT user, count(*) FROM coupon GROUP BY user HAVING count(*) > 1"
# What to say of them, and the coupon's sequence.
OTHER_SEQUENCE: Final = f"""
SELECT user || ' ticket #' || ticket.sequence || ', coupon', min(coupon.sequence) FROM ticket JOIN coupon USING (user)
    WHERE {NO_COUPON.format("ticket")} GROUP BY user, ticket.sequence
"""
# The sequence, how many hold it, and two of them.
SEQUENCE_TWICE: Final = """
SELECT min(user) || ' and ' || max(user), sequence
    FROM (SELECT user, sequence FROM ticket UNION SELECT user, sequence FROM coupon
        UNION SELECT user, sequence FROM twin)
    GROUP BY sequence HAVING count(DISTINCT user) > 1
"""
# Each hole as its first and last sequence, below the one that would have come next when the looking began.
HOLES: Final = """
SELECT before + 1, first - 1 FROM (
    SELECT first, max(last) OVER (ORDER BY first ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM (
        SELECT 0 AS first, 0 AS last UNION SELECT first, last FROM run
        UNION SELECT sequence, sequence FROM ticket UNION SELECT sequence, sequence FROM coupon
        UNION SELECT sequence, sequence FROM event WHERE open AND held
        UNION SELECT :next_sequence, :next_sequence
    ) WHERE first <= :next_sequence
) WHERE first > before + 1
"""
