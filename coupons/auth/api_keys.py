"""Makes and revokes the services' API keys, in PostgreSQL. Every web process reads them there (api_key_cache.py)."""

import logging
import secrets
from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from coupons import audit
from coupons.errors import OperatorError
from coupons.models import ApiKey, Campaign, Scope
from coupons.runtime.id_sequences import heals_id_sequences
from coupons.runtime.text import compose

logger = logging.getLogger(__name__)
MARK = "coupon"  # the prefix by which people and secret scanners recognise a key


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
    """Returns the row and the key. Only its digest is stored, so show the key now: it cannot be read again.

    Without campaigns the key is valid for all. Every web process accepts it within seconds. Raises OperatorError.
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
        name=compose(name.strip()),
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
    with transaction.atomic(durable=True):
        row.save(force_insert=True)
        audit.record(actor=actor, row=row, what=f"Created with {', '.join(row.scopes)}", reason=reason)
    logger.info("api_key.created prefix=%s scopes=%s actor=%s", prefix, ",".join(row.scopes), actor)
    return row, key


def revoke_api_key(*, prefix: str, actor: str, reason: str) -> ApiKey:
    """Every web process that reaches PostgreSQL refuses the key within seconds. Raises OperatorError."""
    if not reason.strip():
        raise OperatorError("reason: say why, it is kept with the key.")
    with transaction.atomic(durable=True):
        row = ApiKey.objects.select_for_update(no_key=True).filter(prefix=prefix).first()
        if row is None:
            raise OperatorError(f"There is no API key {prefix}; the admin lists them by their prefix.")
        if row.revoked_at is not None:
            raise OperatorError(f"API key {prefix} was revoked at {row.revoked_at.isoformat()} by {row.revoked_by}.")
        row.revoked_at, row.revoked_by, row.revoked_reason = timezone.now(), actor, compose(reason.strip())
        row.save(update_fields=["revoked_at", "revoked_by", "revoked_reason"])
        audit.record(actor=actor, row=row, what="Revoked", reason=reason)
    logger.info("api_key.revoked prefix=%s actor=%s", prefix, actor)
    return row


def digest_of(key: bytes) -> str:
    return sha256(key).hexdigest()
