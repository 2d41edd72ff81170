"""Names each kind of difference between Redis, the topic and PostgreSQL, its meaning, and what heals it and when."""

from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings


class Kind(StrEnum):
    """Stable names: scripts and alarms rely on them."""

    # A ticket without a row.
    UNPUBLISHED = "admitted-never-published"
    UNWRITTEN = "published-never-written"
    LOST = "lost"
    VANISHED = "ticket-vanished"
    GAP = "gap"
    # A row or a message without a ticket.
    NEVER_ADMITTED = "written-never-admitted"
    FAILED_WITHOUT_TICKET = "failed-without-ticket"
    NOT_HELD = "published-not-held"
    UNRECORDED = "read-without-a-trace"
    UNKNOWN_KEY = "unknown-key"
    SUCCESS_WITHOUT_COUPON = "success-without-coupon"
    # Two that contradict each other.
    USER_TWICE = "two-for-one-user"
    SEQUENCE_TWICE = "two-for-one-sequence"
    OTHER_SEQUENCE = "other-sequence"
    # A coupon's life: its redemptions and events.
    TWO_LIVE = "two-live-redemptions"
    ORDER_TWICE = "two-for-one-order"
    LIVE_THOUGH_REVOKED = "live-though-revoked"
    OUTSIDE_VALIDITY = "redeemed-outside-validity"
    EVENT_WITHOUT_STATE = "event-without-state"
    WITHOUT_EVENT = "redemption-without-event"
    OTHERS_EVENT = "event-of-another-coupon"
    EVENT_WITHOUT_REDEMPTION = "event-without-redemption"
    WITHOUT_COUPON = "redemption-without-coupon"
    EVENT_WITHOUT_COUPON = "event-without-coupon"
    # Counts, settings and unfinished work.
    BEYOND_QUANTITY = "beyond-quantity"
    COUNT_WRONG = "count-wrong"
    REDIS_BEHIND = "redis-behind"
    PENDING_WITHOUT_TICKET = "pending-without-ticket"
    STALE_PENDING = "stale-pending"
    STUCK_PROCESSING = "stuck-in-processing"
    SETTINGS_DIFFER = "settings-differ"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Has `heals` (what heals the difference, and when) or `command`, which an operator types against it."""

    meaning: str
    heals: str = ""
    command: str = ""


REBUILD = "manage.py rebuild_admission {id}"
BY_HAND = "manage.py dbshell"
PUBLISHED_AGAIN = "the keeper publishes it again within {relay_sec:.0f} s"
EXPLANATIONS = {
    Kind.UNPUBLISHED: Explanation("a pending ticket, and no message of it is in the topic", heals=PUBLISHED_AGAIN),
    Kind.UNWRITTEN: Explanation(
        "a pending ticket whose message was read, and there is neither coupon nor failed event", heals=PUBLISHED_AGAIN
    ),
    Kind.LOST: Explanation(
        "a ticket that is not pending and has neither coupon nor failed event: a row was deleted, or PostgreSQL is an "
        "older copy. The command makes it pending, and the keeper publishes it",
        command=REBUILD,
    ),
    Kind.VANISHED: Explanation(
        "a sequence that was given and that no user holds, although no rebuild explains it: a ticket was removed from "
        "Redis. The command takes back what the topic and PostgreSQL still know",
        command=REBUILD + " --whole-topic",
    ),
    Kind.GAP: Explanation(
        "sequences that no user holds and that are not given again",
        heals="nothing is to be healed: a rebuild leaves such holes, and sold out is counted by tickets, not by "
        "sequence",
    ),
    Kind.NEVER_ADMITTED: Explanation(
        "a coupon without a ticket: another program wrote to the table, or Redis lost the ticket. The command takes "
        "it in",
        command=REBUILD,
    ),
    Kind.FAILED_WITHOUT_TICKET: Explanation(
        "an open failed event that holds a ticket which Redis does not have. The command takes it in", command=REBUILD
    ),
    Kind.NOT_HELD: Explanation(
        "a message that was not read, for a ticket which Redis does not have: Redis lost it, or another "
        "program wrote to the topic. The command makes it a ticket again, if it is run before the consumer reads the "
        "message, which becomes a failed event `not-admitted` then",
        command=REBUILD,
    ),
    Kind.UNRECORDED: Explanation(
        "a message that was read, and there is no ticket, no coupon and no failed event of it: a row was "
        "deleted. The command takes it back from the topic",
        command=REBUILD + " --whole-topic",
    ),
    Kind.UNKNOWN_KEY: Explanation(
        "a message that is signed with a key which is not known here, perhaps a promise: it is not read yet, or the "
        'user has neither coupon nor failed event. Name the key (docs/runbook.md, "Change a key"); then the command '
        "takes it in. If the key was never one of yours, give up the failed event of the message",
        command=REBUILD + " --whole-topic",
    ),
    Kind.SUCCESS_WITHOUT_COUPON: Explanation(
        "a failed event that ended in SUCCESS, and its coupon is not there: a row was deleted, or PostgreSQL is an "
        "older copy. The command takes it back from the topic",
        command=REBUILD + " --whole-topic",
    ),
    Kind.USER_TWICE: Explanation(
        "two coupons of one user: the constraint coupon_one_per_user is gone. Decide which one stays, then restore it",
        command=BY_HAND,
    ),
    Kind.SEQUENCE_TWICE: Explanation(
        "one sequence for two users. The command leaves it to the one who has a row and gives the other the next one",
        command=REBUILD,
    ),
    Kind.OTHER_SEQUENCE: Explanation(
        "ticket and coupon of a user differ in the sequence. The command takes the coupon's", command=REBUILD
    ),
    Kind.TWO_LIVE: Explanation(
        "two orders use one coupon: the constraint redemption_one_live is gone. Return one of them in the admin, then "
        "restore the constraint",
        command=BY_HAND,
    ),
    Kind.ORDER_TWICE: Explanation(
        "one order has two redemptions of one coupon: the constraint redemption_one_per_order is gone. Return the one "
        "that the shop does not know, give its row another order_ref, and restore the constraint",
        command=BY_HAND,
    ),
    Kind.LIVE_THOUGH_REVOKED: Explanation(
        "an order uses a coupon that is revoked: another program wrote one of the two. Return the redemption in the "
        "admin, and tell the shop",
        command=BY_HAND,
    ),
    Kind.OUTSIDE_VALIDITY: Explanation(
        "an order uses a coupon and began to before it was valid or after it had expired: another program wrote the "
        "redemption, or the campaign's dates. Return the redemption in the admin, or correct the dates",
        command=BY_HAND,
    ),
    Kind.EVENT_WITHOUT_STATE: Explanation(
        "a redemption whose state does not follow from its events: another program wrote it. Events are final, so "
        "give the redemption the state of its last event",
        command=BY_HAND,
    ),
    Kind.WITHOUT_EVENT: Explanation(
        "a redemption of which no event tells: another program wrote it, or its events were deleted. Return it in the "
        "admin, or insert the event of its state if the shop has the order",
        command=BY_HAND,
    ),
    Kind.OTHERS_EVENT: Explanation(
        "an event of a coupon names a redemption of another coupon: another program wrote one of the two. Ask the shop "
        "which coupon the order used, and correct the other row",
        command=BY_HAND,
    ),
    Kind.EVENT_WITHOUT_REDEMPTION: Explanation(
        "an event of a redemption that is not there: a row was deleted. Take it from a backup, in the state of its "
        "last event",
        command=BY_HAND,
    ),
    Kind.WITHOUT_COUPON: Explanation(
        "a redemption whose coupon is not there: a row was deleted. Take the coupon from a backup, with its id, before "
        "a rebuild issues it anew",
        command=BY_HAND,
    ),
    Kind.EVENT_WITHOUT_COUPON: Explanation(
        "an event whose coupon is not there: a row was deleted. Take the coupon from a backup, with its id, before a "
        "rebuild issues it anew",
        command=BY_HAND,
    ),
    Kind.BEYOND_QUANTITY: Explanation(
        "more tickets or coupons than the quantity. The command raises it to what was given, so that each is issued",
        command="manage.py change_campaign {id} --quantity {least_quantity}",
    ),
    Kind.COUNT_WRONG: Explanation(
        "campaign.issued_count is not the number of coupons: rows were deleted, or the trigger is gone. The command "
        "counts anew",
        command=REBUILD,
    ),
    Kind.REDIS_BEHIND: Explanation(
        "Redis would give a sequence that a user holds already: it is an older copy. The command continues after the "
        "highest",
        command=REBUILD,
    ),
    Kind.PENDING_WITHOUT_TICKET: Explanation("a user who is pending in Redis and has no ticket there", command=REBUILD),
    Kind.STALE_PENDING: Explanation(
        "pending although the row is there", heals="the keeper's relay settles it within {relay_sec:.0f} s"
    ),
    Kind.STUCK_PROCESSING: Explanation(
        "a failed event whose retry was killed: its lease has ended",
        heals="the next `retry_failed_coupons` takes it up again, within five minutes",
    ),
    Kind.SETTINGS_DIFFER: Explanation(
        "Redis has not heard of an operator's change",
        heals="the keeper pushes the change again within {push_sec:.0f} s",
    ),
}
UNRECORDED = (
    "messages that were read, that name no ticket of a known campaign, and of which no failed event tells: rows were "
    "deleted"
)
HEALS_BY_ITSELF = frozenset(kind for kind, explanation in EXPLANATIONS.items() if explanation.heals)


def healed_by(kind: Kind) -> str:
    """Returns what heals the difference by itself, and when; empty if an operator must."""
    push_sec = 2 * settings.KEEPER_INTERVAL_MS / 1000
    return EXPLANATIONS[kind].heals.format(push_sec=push_sec, relay_sec=settings.RELAY_AFTER_MS / 1000 + push_sec)
