"""Erases a user: a pseudonym takes the place of the id in PostgreSQL and in Redis, and the ledger still closes.

The order is the proof. The lock keeps rebuilds away. A user is erased only where nothing about the user can change any
more: each campaign is closed, no ticket is pending, no failed event waits. One transaction replaces the id, keeps a
digest by which later readers recognise it (issuing/erased.py), and raises the epoch: a consumer or a retry that asked
the gate before does not commit. Redis follows. If it does not, its state is stale, and a rebuild, which knows the
digests, makes it anew.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from coupons import audit
from coupons.admission import ticket_store
from coupons.erasing.replace_id import IdReplacement, Replaced
from coupons.errors import GateUnavailable, OperatorError, PushDidNotArrive, StateStale, one_line
from coupons.issuing.erased import digest_of
from coupons.messaging.messages import is_user_id
from coupons.models import (
    LOADED,
    MAX_USER_ID_LENGTH,
    Campaign,
    CampaignState,
    Coupon,
    ErasedTicket,
    EventStatus,
    FailCode,
    FailEventHistory,
)
from coupons.recovery.locks import Work, work_lock
from coupons.recovery.stale import record_rebuilt
from coupons.redemption.codes import current_code_key
from coupons.runtime.db_timeouts import answers_may_take
from coupons.runtime.failpoints import ERASURE_COMMITTED, failpoint

logger = logging.getLogger(__name__)
PREFIX = "erased-"
STATEMENT_SEC = 600  # some texts are searched in whole tables
NETWORK_SEC = 2


@dataclass(slots=True)
class Erasure:
    """What was done. `pseudonym` is also that of an earlier run for this user."""

    pseudonym: str
    replaced: Replaced
    tickets: int = 0


def erase_user(*, user_id: str, actor: str, reason: str) -> Erasure:
    """Idempotent: a second run finishes what a killed one has left, and replaces what has come since.

    Raises OperatorError (nothing has changed; the text says what to do first), PushDidNotArrive (PostgreSQL has the
    pseudonym, and the keeper makes Redis's state anew), RetryLater and database errors.
    """
    former = _former_pseudonym(user_id)
    replacement = IdReplacement(user_id, former or f"{PREFIX}{token_hex(16)}")
    _check_request(replacement, reason)
    with work_lock(Work.REBUILD) as acquired:
        if not acquired:
            raise OperatorError("A rebuild is at work (most likely the keeper's); try again in a few seconds.")
        held = _holding_campaigns(user_id)
        erasure, epochs = _erase_in_postgresql(replacement, held, actor=actor, reason=reason, again=bool(former))
        # Crash here => Redis's state is stale by its epoch; the keeper's rebuild knows the digest.
        failpoint(ERASURE_COMMITTED)
        erasure.tickets = _erase_in_redis(replacement, epochs)
    logger.info("user.erased pseudonym=%s actor=%s %s", erasure.pseudonym, actor, erasure.replaced)
    return erasure


def _check_request(replacement: IdReplacement, reason: str) -> None:
    user_id = replacement.user_id
    if user_id.startswith(PREFIX):
        raise OperatorError("user_id: this is a pseudonym; its user is erased already.")
    if not is_user_id(user_id) and user_id not in (".", ".."):
        raise OperatorError(
            f"user_id: it is no user id, 1 to {MAX_USER_ID_LENGTH} characters of A-Z a-z 0-9 . _ : @ | + -"
        )
    if not reason.strip():
        raise OperatorError("reason: say why the user is erased. The audit keeps it.")
    if replacement.is_named_in(reason):
        raise OperatorError("reason: it names the user, and the audit would keep the id. Name the request instead.")


def _former_pseudonym(user_id: str) -> str:
    """Returns the pseudonym of an earlier run, or "". Raises UnknownCodeKey."""
    pairs = ErasedTicket.objects.order_by().values_list("campaign_id", "code_key").distinct()
    digests = [digest_of(campaign_id, user_id, code_key) for campaign_id, code_key in pairs]
    found = ErasedTicket.objects.filter(digest__in=digests).order_by("-erased_at", "-pk").first()
    return found.pseudonym if found is not None else ""


def _holding_campaigns(user_id: str) -> Mapping[UUID, bool]:
    """Returns the campaigns in which Redis holds a ticket of the user, and whether it is pending. Raises RetryLater,
    also when a state is not current."""
    epochs = dict(Campaign.objects.filter(LOADED).values_list("pk", "epoch"))
    sequences = ticket_store.held_sequences(epochs=epochs, users={campaign_id: [user_id] for campaign_id in epochs})
    holding = {}
    for campaign_id in (pk for pk, [sequence] in sequences.items() if sequence is not None):
        found = ticket_store.held_tickets(campaign_id=campaign_id, epoch=epochs[campaign_id], user_ids=[user_id])
        holding[campaign_id] = user_id in found and found[user_id].pending
    return holding


def _erase_in_postgresql(
    replacement: IdReplacement, held: Mapping[UUID, bool], *, actor: str, reason: str, again: bool
) -> tuple[Erasure, dict[UUID, int]]:
    """Also returns the new epochs of the campaigns whose state in Redis may name the user."""
    user_id = replacement.user_id
    with answers_may_take(STATEMENT_SEC + NETWORK_SEC), transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(STATEMENT_SEC * 1000)])
        events = list(FailEventHistory.objects.filter(user_id=user_id).select_for_update(no_key=True).defer("payload"))
        ids = set(held) | {event.campaign_id for event in events if event.campaign_id is not None}
        ids |= set(Coupon.objects.filter(user_id=user_id).values_list("campaign_id", flat=True))
        campaigns = list(Campaign.objects.filter(pk__in=ids).select_for_update(no_key=True).order_by("pk"))
        if obstacles := [*_obstacles_in(campaigns, held), *_waiting(events)]:
            raise OperatorError("\n".join(["Nothing was erased:", *obstacles]))
        epochs = _raise_epochs(campaigns)
        _keep_digests(campaigns, replacement)
        replaced = replacement.run()
        if not replaced.total and not epochs and not again:
            raise OperatorError("user_id: nothing here names this user.")
        if replaced.total or epochs:
            what = f"Erased a user, {replacement.pseudonym} from now on"
            audit.record_all(actor=actor, rows=campaigns or events, what=what, reason=reason)
    return Erasure(replacement.pseudonym, replaced), epochs


def _obstacles_in(campaigns: Collection[Campaign], held: Mapping[UUID, bool]) -> Sequence[str]:
    """An open campaign would admit the same person once more, and a ticket that is pending is still to be issued."""
    found = []
    for campaign in campaigns:
        if campaign.state != CampaignState.CLOSED:
            found.append(
                f"campaign {campaign.pk} is {campaign.state}, so the same person could apply again and get a second "
                f"coupon. Close it first: manage.py close_campaign {campaign.pk}"
            )
        elif held.get(campaign.pk):
            found.append(f"the ticket of campaign {campaign.pk} is pending: the consumers come first; try again then.")
    return found


def _waiting(events: Collection[FailEventHistory]) -> Sequence[str]:
    return [
        f"failed event {event.pk} waits, and may be a coupon that was promised: retry it, or give it up in the admin."
        for event in events
        if event.event_status != EventStatus.SUCCESS
        and event.given_up_at is None
        and (FailCode(event.error_code).holds_ticket or event.event_status == EventStatus.PROCESSING)
    ]


def _raise_epochs(campaigns: Collection[Campaign]) -> dict[UUID, int]:
    named = [campaign.pk for campaign in campaigns if campaign.is_loaded]
    Campaign.objects.filter(pk__in=named).update(epoch=F("epoch") + 1, updated_at=Now())
    return dict(Campaign.objects.filter(pk__in=named).values_list("pk", "epoch"))


def _keep_digests(campaigns: Collection[Campaign], replacement: IdReplacement) -> None:
    code_key = current_code_key()
    rows = [
        ErasedTicket(
            campaign=campaign,
            digest=digest_of(campaign.pk, replacement.user_id, code_key),
            code_key=code_key,
            pseudonym=replacement.pseudonym,
        )
        for campaign in campaigns
    ]
    ErasedTicket.objects.bulk_create(rows, ignore_conflicts=True)


def _erase_in_redis(replacement: IdReplacement, epochs: Mapping[UUID, int]) -> int:
    """Returns how many tickets have the pseudonym now. Raises PushDidNotArrive."""
    tickets, late = 0, []
    for campaign_id, epoch in epochs.items():
        try:
            tickets += ticket_store.erase(
                campaign_id=campaign_id,
                former_epoch=epoch - 1,
                epoch=epoch,
                user_id=replacement.user_id,
                pseudonym=replacement.pseudonym,
            )
            record_rebuilt(campaign_id, epoch)
        except (StateStale, GateUnavailable) as error:
            late.append(one_line(error))
    if late:
        raise PushDidNotArrive(
            f"{replacement.pseudonym}: erased in PostgreSQL, and Redis still names the user ({'; '.join(late)}). The "
            "keeper rebuilds it; `manage.py rebuild_admission` does so now."
        )
    return tickets
