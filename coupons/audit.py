"""Records each operator's action, with actor, time and reason, in a row that never changes."""

from collections.abc import Iterable

from django.db import IntegrityError, transaction
from django.db.models import Model

from coupons.models import AuditEntry
from coupons.runtime.id_sequences import heal_id_sequences, is_id_taken
from coupons.runtime.text import compose

MAX_REASON = 2_000


def record(*, actor: str, row: Model, what: str, reason: str) -> None:
    """Call it inside the transaction of the action, so that both are committed or rolled back."""
    record_all(actor=actor, rows=[row], what=what, reason=reason)


def record_all(*, actor: str, rows: Iterable[Model], what: str, reason: str) -> None:
    entries = [
        AuditEntry(
            actor=actor,
            kind=row._meta.label_lower,
            object_id=str(row.pk),
            object_name=str(row)[:250],
            what=what,
            reason=compose(reason.strip()),
        )
        for row in rows
    ]
    try:
        with transaction.atomic():
            AuditEntry.objects.bulk_create(entries)
    except IntegrityError as error:
        if not is_id_taken(error):
            raise
        # The audited action runs in the caller's transaction, so this repeats the entry and not the whole function.
        heal_id_sequences(AuditEntry)
        AuditEntry.objects.bulk_create(entries)
