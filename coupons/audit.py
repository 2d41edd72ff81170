"""Who did what, when and why: one row, in the transaction of what was done, and final from then on."""

from collections.abc import Iterable

from django.db import IntegrityError, transaction
from django.db.models import Model

from coupons.models import AuditEntry
from coupons.runtime.id_sequences import heal_id_sequences, is_id_taken

MAX_REASON = 2_000


def record(*, actor: str, row: Model, what: str, reason: str) -> None:
    """Call it inside the transaction that does it: what is rolled back was not done."""
    record_all(actor=actor, rows=[row], what=what, reason=reason)


def record_all(*, actor: str, rows: Iterable[Model], what: str, reason: str) -> None:
    entries = [
        AuditEntry(
            actor=actor,
            kind=row._meta.label_lower,
            object_id=str(row.pk),
            object_name=str(row)[:250],
            what=what,
            reason=reason.strip(),
        )
        for row in rows
    ]
    try:
        with transaction.atomic():
            AuditEntry.objects.bulk_create(entries)
    except IntegrityError as error:
        if not is_id_taken(error):
            raise
        # What is audited is done in the caller's transaction, so it is healed here and not done over again.
        heal_id_sequences(AuditEntry)
        AuditEntry.objects.bulk_create(entries)
