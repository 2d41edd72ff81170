"""Remembers in Redis which rights were taken away, since an older copy of PostgreSQL gives them back.

    coupon:{revoked}:api-keys   set: digests of revoked API keys. A revocation is final: none is ever removed
    coupon:{revoked}:accounts   hash: account of the admin -> its rights after its last change, as a JSON list

Nobody gets a right by what stands here. Each web process refuses the keys (api_key_cache.py); `revoke_after_restore`
compares both with PostgreSQL.
"""

import json
import logging
from collections.abc import Collection
from contextlib import suppress
from typing import cast

from django.contrib.auth.models import User

from coupons.admission.scripts import calling_redis
from coupons.errors import GateUnavailable

logger = logging.getLogger(__name__)
API_KEYS = "coupon:{revoked}:api-keys"
ACCOUNTS = "coupon:{revoked}:accounts"


def share_revoked_keys(digests: Collection[str] = ()) -> set[str]:
    """Adds the digests that Redis lacks, and returns all that it has. Raises GateUnavailable."""
    with calling_redis() as redis:
        known = {member.decode() for member in cast("set[bytes]", redis.smembers(API_KEYS))}
        missing = set(digests) - known
        if missing:
            redis.sadd(API_KEYS, *missing)
    return known | missing


def rights_of(account: User) -> list[str]:
    """Its flags, groups and permissions of its own, by name."""
    flags = [name for name in ("is_active", "is_staff", "is_superuser") if getattr(account, name)]
    groups = sorted(account.groups.values_list("name", flat=True))
    return [*flags, *groups, *sorted(account.user_permissions.values_list("codename", flat=True))]


def remember_rights(account: User) -> None:
    """Call it when the change is committed. While Redis is down the change is not remembered, and the log says so."""
    logger.info("rights.changed account=%s has=%s", account.get_username(), ",".join(rights_of(account)) or "nothing")
    try:
        with calling_redis() as redis:
            redis.hset(ACCOUNTS, account.get_username(), json.dumps(rights_of(account)))
    except GateUnavailable as error:
        logger.warning("rights.not_remembered account=%s error=%s", account.get_username(), error)


def remembered_rights() -> dict[str, set[str]]:
    """Returns the rights by account. Raises GateUnavailable."""
    with calling_redis() as redis:
        found = cast("dict[bytes, bytes]", redis.hgetall(ACCOUNTS))
    rights = {}
    for name, value in found.items():
        with suppress(ValueError):  # not of ours
            rights[name.decode()] = set(json.loads(value))
    return rights
