"""Finds the API keys and accounts that a restored, older PostgreSQL lets in again, and takes their rights away."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from coupons import audit
from coupons.auth.api_keys import revoke_api_key
from coupons.auth.revocations import remember_rights, remembered_rights, rights_of, share_revoked_keys
from coupons.errors import OperatorError
from coupons.models import ApiKey

logger = logging.getLogger(__name__)
NAMED, NOT_NAMED = "named here", "not named here"


@dataclass
class Access:
    """Who gets in by this database. `regained` are those who should not, by prefix or account, and who says so."""

    keys: list[ApiKey]
    accounts: list[User]
    regained: dict[str, str] = field(default_factory=dict)


def find_access(*, also: Collection[str] = (), all_but: Collection[str] | None = None) -> Access:
    """Marks what Redis remembers as revoked and what `also` names; with `all_but`, all that it does not name, and Redis
    is not asked.

    Raises OperatorError for a name that is neither a valid key's prefix nor an active account, GateUnavailable.
    """
    good = Q(expires_at__isnull=True) | Q(expires_at__gt=Now())
    access = Access(
        keys=list(ApiKey.objects.filter(good, revoked_at=None)),
        accounts=list(User.objects.filter(is_active=True).order_by("username")),
    )
    names = {*(key.prefix for key in access.keys), *(account.get_username() for account in access.accounts)}
    if unknown := {*also, *(all_but or ())} - names:
        raise OperatorError(f"No valid API key and no active account is named {', '.join(sorted(unknown))}.")
    if all_but is not None:
        access.regained = dict.fromkeys(names - {*all_but}, NOT_NAMED)
    else:
        access.regained = _remembered(access)
    access.regained |= dict.fromkeys(also, NAMED)
    return access


def take_back(access: Access, *, actor: str, reason: str) -> None:
    """Revokes the marked keys, switches off the marked accounts, and ends every session: the copy has old ones, too.

    Each step is a transaction of its own and may be repeated. Raises OperatorError.
    """
    for key in access.keys:
        if key.prefix in access.regained:
            revoke_api_key(prefix=key.prefix, actor=actor, reason=reason)
    for account in access.accounts:
        if account.get_username() in access.regained:
            with transaction.atomic(durable=True):
                User.objects.filter(pk=account.pk).update(is_active=False)
                audit.record(actor=actor, row=account, what="Switched off after a restore", reason=reason)
            account.refresh_from_db()
            remember_rights(account)
    ended, _ = Session.objects.all().delete()
    logger.info("access.taken_back names=%d sessions=%d actor=%s", len(access.regained), ended, actor)


def _remembered(access: Access) -> dict[str, str]:
    revoked, rights = share_revoked_keys(), remembered_rights()
    found = {key.prefix: "revoked since, as Redis remembers" for key in access.keys if key.digest in revoked}
    for account in access.accounts:
        name = account.get_username()
        if name in rights and (more := [right for right in rights_of(account) if right not in rights[name]]):
            found[name] = f"has lost since, as Redis remembers: {', '.join(more)}"
    return found
