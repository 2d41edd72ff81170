"""Keeps the answers to requests that must not be done twice: the admin's forms, and API requests with an
Idempotency-Key. A repeat gets the first answer, and nothing is done again (docs/decisions/0033).

Keys are hashes of the caller and of what the request names, so the table shows neither.
"""

from datetime import timedelta
from hashlib import sha256

from django.db import connection

from coupons.models import GivenAnswer
from coupons.runtime.clock import from_now

KEPT = timedelta(days=1)


def digest(*parts: str) -> str:
    """Hashes the parts. Their lengths count too, so that no two lists of parts are the same text."""
    return sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


def delete_expired() -> None:
    """Each use calls it, so the table holds a day's answers."""
    GivenAnswer.objects.filter(at__lt=from_now(-KEPT.total_seconds())).delete()


def try_lock(key: str) -> bool:
    """Returns whether no other request with this key is at work. Holds the key until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int(key[:16], 16) - 2**63])
        return bool(cursor.fetchone()[0])
