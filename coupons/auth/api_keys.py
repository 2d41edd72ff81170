"""Services' API keys: made and revoked in PostgreSQL, pushed to Redis, from where every web process knows them.

A push is a comparison: what PostgreSQL says now against what Redis has, and a write that happens only if nobody else
has written in between. So it may run anywhere, as often as somebody likes, in any order: after each change by whoever
changed, and in every round of the keeper, for those that did not arrive and for a Redis that was restarted.
"""

import json
import logging
import secrets
from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from coupons import audit
from coupons.admission.keys import API_KEYS
from coupons.admission.scripts import run
from coupons.errors import GateUnavailable, OperatorError, PushDidNotArrive
from coupons.models import ApiKey, Campaign, Scope
from coupons.runtime.id_sequences import heals_id_sequences

logger = logging.getLogger(__name__)
MARK = "coupon"  # what a key begins with, so that people and secret scanners know one when they see it
_RACES = 10


@heals_id_sequences
def create_api_key(
    *,
    name: str,
    scopes: Collection[str],
    campaign_ids: Collection[UUID] = (),
    expires_at: datetime | None = None,
    actor: str,
    reason: str = "",
) -> tuple[ApiKey, str]:
    """The row, and the key itself: show it to whoever asked, since nobody can read it again.

    No campaign means all of them. Raises OperatorError (nothing was made) or PushDidNotArrive; its `made` is then the
    same pair, and the key is good as soon as the keeper has pushed it.
    """
    if not name.strip():
        raise OperatorError("name: say which service has this key.")
    if not scopes or not set(scopes) <= set(Scope.values):
        raise OperatorError(f"scopes: one or more of {', '.join(Scope.values)}.")
    if expires_at is not None and expires_at <= timezone.now():
        raise OperatorError(f"expires_at, {expires_at.isoformat()}, has passed.")
    missing = set(campaign_ids) - set(Campaign.objects.filter(pk__in=campaign_ids).values_list("pk", flat=True))
    if missing:
        raise OperatorError(f"campaigns: there is no campaign {', '.join(sorted(map(str, missing)))}.")
    prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    key = f"{MARK}_{prefix}_{secret}"
    row = ApiKey(
        name=name.strip(),
        prefix=prefix,
        digest=digest_of(key.encode()),
        scopes=sorted(set(scopes)),
        campaigns=sorted(set(campaign_ids)) or None,
        expires_at=expires_at,
        created_by=actor,
    )
    try:
        row.full_clean()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise OperatorError(f"{field}: {messages[0]}") from None
    with transaction.atomic(durable=True):  # Redis is told after the commit
        row.save(force_insert=True)
        audit.record(actor=actor, row=row, what=f"Created with {', '.join(row.scopes)}", reason=reason)
    logger.info("api_key.created prefix=%s scopes=%s actor=%s", prefix, ",".join(row.scopes), actor)
    try:
        push_api_keys()
    except GateUnavailable as error:
        raise KeyNotPushed(row, key) from error
    return row, key


def revoke_api_key(*, prefix: str, actor: str, reason: str) -> ApiKey:
    """From now on refused by every process within the refresh; raises PushDidNotArrive when it may last longer."""
    if not reason.strip():
        raise OperatorError("reason: say why, it is kept with the key.")
    with transaction.atomic(durable=True):
        row = ApiKey.objects.select_for_update(no_key=True).filter(prefix=prefix).first()
        if row is None:
            raise OperatorError(f"There is no API key {prefix}; the admin lists them by their prefix.")
        if row.revoked_at is not None:
            raise OperatorError(f"API key {prefix} was revoked at {row.revoked_at.isoformat()} by {row.revoked_by}.")
        row.revoked_at, row.revoked_by, row.revoked_reason = timezone.now(), actor, reason.strip()
        row.save(update_fields=["revoked_at", "revoked_by", "revoked_reason"])
        audit.record(actor=actor, row=row, what="Revoked", reason=reason)
    logger.info("api_key.revoked prefix=%s actor=%s", prefix, actor)
    try:
        push_api_keys()
    except GateUnavailable as error:
        raise PushDidNotArrive(
            f"API key {prefix} is revoked, but Redis does not know it yet; the keeper tells it. Until then it is good."
        ) from error
    return row


class KeyNotPushed(PushDidNotArrive):
    """The key was made; Redis does not know it yet."""

    def __init__(self, row: ApiKey, key: str) -> None:
        super().__init__("The key is made, but Redis does not know it yet; it is good as soon as the keeper tells it.")
        self.made = row, key


def digest_of(key: bytes) -> str:
    return sha256(key).hexdigest()


def push_api_keys() -> bool:
    """Make Redis's snapshot the one that PostgreSQL says; whether that changed anything. Raises GateUnavailable."""
    for _ in range(_RACES):
        # Redis first: whoever changes keys between our two looks pushes after us, or makes our write fail.
        status, version, *document = run("read_api_keys", [API_KEYS], [])
        wanted = _document()
        if status == b"CURRENT" and document[0] == wanted.encode():
            return False
        if run("push_api_keys", [API_KEYS], [version, wanted])[0] == b"PUSHED":
            logger.info("api_keys.pushed version=%d", version + 1)
            return True
    raise GateUnavailable(f"API keys: {_RACES} other pushes came in between")


def _document() -> str:
    """Every key that is good now or may become so; the processes look at `expires_at` themselves."""
    good = ApiKey.objects.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=Now()), revoked_at__isnull=True)
    rows: list[dict[str, Any]] = [
        {
            "id": row.pk,
            "prefix": row.prefix,
            "digest": row.digest,
            "scopes": row.scopes,
            "campaigns": None if row.campaigns is None else [str(each) for each in row.campaigns],
            "expires_at": None if row.expires_at is None else row.expires_at.timestamp(),
        }
        for row in good.order_by("pk")
    ]
    return json.dumps(rows, separators=(",", ":"))
