"""One wrong thing put into a scene (ledger_scenes.py).

Each returns what the verifier must name, or None where the scene has no place for it. Sequences that nobody holds any
more go into `scene.missing`: they are named together.
"""

from collections.abc import Callable
from datetime import timedelta

from django.db.models import F
from django.db.models.functions import Now
from django.test import override_settings

from coupons.admission.scripts import admission_redis
from coupons.messaging.positions import Position
from coupons.models import Campaign, Coupon, EventStatus, FailAttempt, FailEventHistory
from coupons.reconciliation.differences import Kind
from tests.support.ledger_scenes import Named, Scene, name
from tests.support.life_corruptions import LIFE_CORRUPTIONS
from tests.support.tickets import insert_coupons, publish

Corruption = Callable[[Scene], Named | None]
LONG_MS = 3_600_000


def make_a_young_ticket_old(scene: Scene) -> Named | None:
    taken = scene.take("young")
    if taken is None:
        return None
    admission_redis().zincrby(scene.keys.pending, -LONG_MS, taken[0])
    return [(Kind.UNPUBLISHED, name(taken))]


def mark_a_young_ticket_where_the_topic_has_nothing(scene: Scene) -> Named | None:
    taken = scene.take("young")
    if taken is None:
        return None
    position = Position(scene.chance.randrange(8), 10**9)  # half of these partitions do not exist
    admission_redis().zadd(scene.keys.pending, {taken[0]: position.score})
    return [(Kind.UNPUBLISHED, name(taken))]


def mark_a_young_ticket_at_anothers_message(scene: Scene) -> Named | None:
    taken = scene.take("young")
    if taken is None:
        return None
    read = [position for user, position in scene.positions.items() if not user.startswith("unread")]
    admission_redis().zadd(scene.keys.pending, {taken[0]: scene.chance.choice(read).score})
    return [(Kind.UNPUBLISHED, name(taken))]


def lose_the_row_of_a_pending_ticket(scene: Scene) -> Named | None:
    taken = scene.take("issued")
    if taken is None:
        return None
    delete_coupon(scene, taken[0])
    make_pending(scene, taken[0], scene.positions[taken[0]].score)
    return [(Kind.UNWRITTEN, name(taken))]


def delete_a_coupon(scene: Scene) -> Named | None:
    taken = scene.take("issued")
    if taken is None:
        return None
    delete_coupon(scene, taken[0])
    return [(Kind.LOST, name(taken))]


def delete_a_failed_event(scene: Scene) -> Named | None:
    taken = scene.take("failed", "given_up")
    if taken is None:
        return None
    delete_events(scene, taken[0])
    return [(Kind.LOST, name(taken))]


def settle_without_a_row(scene: Scene) -> Named | None:
    taken = scene.take("unread", "young")
    if taken is None:
        return None
    admission_redis().zrem(scene.keys.pending, taken[0])
    count(scene, settled=1)
    return [(Kind.LOST, name(taken))]


def remove_a_young_ticket(scene: Scene) -> Named | None:
    taken = scene.take("young")
    if taken is None:
        return None
    remove_ticket(scene, taken, pending=True)
    return []


def remove_the_ticket_of_a_coupon(scene: Scene) -> Named | None:
    taken = scene.take("issued", "retried")
    if taken is None:
        return None
    remove_ticket(scene, taken, written=True)
    return [(Kind.NEVER_ADMITTED, name(taken))]


def write_a_coupon_that_nobody_was_given(scene: Scene) -> Named | None:
    sequence = scene.next_sequence() + scene.chance.randint(0, 5)
    taken = (f"thief-{scene.chance.randrange(10**6)}", sequence)
    if any(existing == sequence for existing in coupon_sequences(scene)):
        return None
    insert_coupons(scene.campaign, [taken])
    return [(Kind.NEVER_ADMITTED, name(taken)), (Kind.REDIS_BEHIND, "")]


def remove_the_ticket_of_a_failed_event(scene: Scene) -> Named | None:
    taken = scene.take("failed", "given_up")
    if taken is None:
        return None
    remove_ticket(scene, taken, written=True)
    return [(Kind.FAILED_WITHOUT_TICKET, name(taken))]


def remove_the_ticket_of_a_message_on_its_way(scene: Scene) -> Named | None:
    taken = scene.take("unread")
    if taken is None:
        return None
    remove_ticket(scene, taken, pending=True)
    return [(Kind.NOT_HELD, name(taken))]


def forge_a_message(scene: Scene) -> Named | None:
    forged = (f"forger-{scene.chance.randrange(10**6)}", scene.chance.randint(1, 100))
    publish(scene.campaign, *forged)
    return [(Kind.NOT_HELD, name(forged))]


def sign_with_a_key_that_nobody_knows(scene: Scene) -> Named:
    with override_settings(MESSAGE_KEYS={"gone-0a0b0c0d": b"x" * 32}):
        publish(scene.campaign, "signed-elsewhere", 1)
    return [(Kind.UNKNOWN_KEY, "signed-elsewhere #1, key gone-0a0b0c0d")]


def remove_all_that_tells_of_a_message(scene: Scene) -> Named | None:
    taken = scene.take("issued", "failed", "given_up")
    if taken is None:
        return None
    delete_coupon(scene, taken[0])
    delete_events(scene, taken[0])
    remove_ticket(scene, taken)
    return [(Kind.UNRECORDED, name(taken))]


def delete_the_coupon_of_a_retry(scene: Scene) -> Named | None:
    taken = scene.take("retried")
    if taken is None:
        return None
    delete_coupon(scene, taken[0])
    return [(Kind.LOST, name(taken)), (Kind.SUCCESS_WITHOUT_COUPON, name(taken))]


def give_a_user_a_second_coupon(scene: Scene) -> Named | None:
    taken = scene.take("issued")
    if taken is None:
        return None
    sequence = max([scene.next_sequence(), *coupon_sequences(scene)]) + 1
    Coupon.objects.create(
        campaign=scene.campaign, user_id=taken[0], sequence=sequence, code=f"2{scene.campaign.pk.hex}"[:20] + taken[0]
    )
    return [(Kind.USER_TWICE, f"{taken[0]}: 2"), (Kind.REDIS_BEHIND, "")]


def give_a_coupons_sequence_to_somebody_else(scene: Scene) -> Named | None:
    taken = scene.take("issued")
    if taken is None:
        return None
    twin = (f"twin-{scene.chance.randrange(10**6)}", taken[1])
    insert_coupons(scene.campaign, [twin])
    return [(Kind.SEQUENCE_TWICE, f"#{taken[1]} of "), (Kind.NEVER_ADMITTED, name(twin))]


def give_a_young_ticket_anothers_sequence(scene: Scene) -> Named | None:
    taken, other = scene.take("young"), scene.take("issued", "failed", "unread")
    if taken is None or other is None:
        return None
    admission_redis().hset(scene.keys.tickets, taken[0], other[1])
    scene.missing.add(taken[1])
    return [(Kind.SEQUENCE_TWICE, f"#{other[1]} of ")]


def give_an_issued_ticket_another_sequence(scene: Scene) -> Named | None:
    taken = scene.take("issued", "retried")
    if taken is None:
        return None
    admission_redis().hset(scene.keys.tickets, taken[0], scene.next_sequence() + 1_000 + taken[1])
    return [(Kind.OTHER_SEQUENCE, f"{taken[0]} ticket #"), (Kind.REDIS_BEHIND, "")]


def count_one_coupon_too_many(scene: Scene) -> Named | None:
    Campaign.objects.filter(pk=scene.campaign.pk).update(issued_count=F("issued_count") + 1)
    return [(Kind.COUNT_WRONG, "issued_count ")]


def delete_a_coupon_and_leave_the_count(scene: Scene) -> Named | None:
    taken = scene.take("issued")
    if taken is None:
        return None
    Coupon.objects.filter(campaign=scene.campaign, user_id=taken[0]).delete()
    return [(Kind.LOST, name(taken)), (Kind.COUNT_WRONG, "issued_count ")]


def rewind_the_next_sequence(scene: Scene) -> Named | None:
    if scene.missing:  # then the highest might be missing
        return None
    admission_redis().hincrby(scene.keys.campaign, "next_sequence", -1)
    return [(Kind.REDIS_BEHIND, "")]


def make_a_stranger_pending(scene: Scene) -> Named | None:
    stranger = f"ghost-{scene.chance.randrange(10**6)}"
    make_pending(scene, stranger, 5.0)
    return [(Kind.PENDING_WITHOUT_TICKET, stranger)]


def forget_to_settle(scene: Scene) -> Named | None:
    taken = scene.take("issued", "failed")
    if taken is None:
        return None
    long_ago = Now() - timedelta(milliseconds=LONG_MS)
    Coupon.objects.filter(campaign=scene.campaign, user_id=taken[0]).update(issued_at=long_ago)
    FailEventHistory.objects.filter(campaign=scene.campaign, user_id=taken[0]).update(updated_at=long_ago)
    make_pending(scene, taken[0], scene.chance.choice([5.0, scene.positions[taken[0]].score]))
    return [(Kind.STALE_PENDING, name(taken))]


def kill_a_retry(scene: Scene) -> Named | None:
    taken = scene.take("failed")
    if taken is None:
        return None
    FailEventHistory.objects.filter(campaign=scene.campaign, user_id=taken[0]).update(
        event_status=EventStatus.PROCESSING, next_attempt_at=Now() - timedelta(seconds=1)
    )
    return [(Kind.STUCK_PROCESSING, name(taken))]


def hide_a_change_from_redis(scene: Scene) -> Named | None:
    long_ago = Now() - timedelta(milliseconds=LONG_MS)
    Campaign.objects.filter(pk=scene.campaign.pk).update(
        quantity=F("quantity") + 7, revision=F("revision") + 1, updated_at=long_ago
    )
    return [(Kind.SETTINGS_DIFFER, "Redis has revision ")]


def lower_the_quantity_below_the_tickets(scene: Scene) -> Named | None:
    scene.campaign.refresh_from_db()
    quantity = admission_redis().hlen(scene.keys.tickets) - 1
    if quantity < scene.campaign.issued_count:
        return None
    Campaign.objects.filter(pk=scene.campaign.pk).update(quantity=quantity)
    admission_redis().hset(scene.keys.campaign, "quantity", quantity)
    return [(Kind.BEYOND_QUANTITY, f"{quantity + 1} tickets, ")]


CORRUPTIONS: tuple[Corruption, ...] = (
    make_a_young_ticket_old,
    mark_a_young_ticket_where_the_topic_has_nothing,
    mark_a_young_ticket_at_anothers_message,
    lose_the_row_of_a_pending_ticket,
    delete_a_coupon,
    delete_a_failed_event,
    settle_without_a_row,
    remove_a_young_ticket,
    remove_the_ticket_of_a_coupon,
    write_a_coupon_that_nobody_was_given,
    remove_the_ticket_of_a_failed_event,
    remove_the_ticket_of_a_message_on_its_way,
    forge_a_message,
    sign_with_a_key_that_nobody_knows,
    remove_all_that_tells_of_a_message,
    delete_the_coupon_of_a_retry,
    give_a_user_a_second_coupon,
    give_a_coupons_sequence_to_somebody_else,
    give_a_young_ticket_anothers_sequence,
    give_an_issued_ticket_another_sequence,
    count_one_coupon_too_many,
    delete_a_coupon_and_leave_the_count,
    rewind_the_next_sequence,
    make_a_stranger_pending,
    forget_to_settle,
    kill_a_retry,
    hide_a_change_from_redis,
    lower_the_quantity_below_the_tickets,
    *LIFE_CORRUPTIONS,
)
# In this order after all others, whose work they would undo or whose numbers they need.
LAST = (rewind_the_next_sequence, hide_a_change_from_redis, lower_the_quantity_below_the_tickets)
# The count is right again when one takes away what the other added.
APART = {count_one_coupon_too_many, delete_a_coupon_and_leave_the_count}


def holes(scene: Scene) -> Named:
    """The stretches of `scene.missing`, as the verifier names them."""
    kind = Kind.GAP if scene.rebuilt else Kind.VANISHED
    firsts = [sequence for sequence in sorted(scene.missing) if sequence - 1 not in scene.missing]
    named: Named = []
    for first in firsts:
        last = first
        while last + 1 in scene.missing:
            last += 1
        named.append((kind, f"#{first}" if first == last else f"#{first} to #{last}"))
    return named


def coupon_sequences(scene: Scene) -> list[int]:
    return list(Coupon.objects.filter(campaign=scene.campaign).values_list("sequence", flat=True))


def delete_coupon(scene: Scene, user_id: str) -> None:
    """Without a trace in the count, as a restored backup would."""
    deleted, _ = Coupon.objects.filter(campaign=scene.campaign, user_id=user_id).delete()
    Campaign.objects.filter(pk=scene.campaign.pk).update(issued_count=F("issued_count") - deleted)


def delete_events(scene: Scene, user_id: str) -> None:
    events = FailEventHistory.objects.filter(campaign=scene.campaign, user_id=user_id)
    FailAttempt.objects.filter(event__in=events).delete()
    events.delete()


def make_pending(scene: Scene, user_id: str, score: float) -> None:
    assert admission_redis().zadd(scene.keys.pending, {user_id: score}) == 1
    count(scene, settled=-1)


def remove_ticket(scene: Scene, ticket: tuple[str, int], *, pending: bool = False, written: bool = False) -> None:
    """With the counts, so that the gate takes its state for current. A row keeps the sequence from being missing."""
    assert admission_redis().hdel(scene.keys.tickets, ticket[0]) == 1
    removed = admission_redis().zrem(scene.keys.pending, ticket[0])
    assert removed == pending
    count(scene, admitted=-1, settled=0 if pending else -1)
    if not written:
        scene.missing.add(ticket[1])


def count(scene: Scene, **changes: int) -> None:
    for field, change in changes.items():
        admission_redis().hincrby(scene.keys.campaign, field, change)
