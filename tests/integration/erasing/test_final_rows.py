# ruff: noqa: S608  only constants of this file are put together
"""What PostgreSQL lets through in rows that are final: an id that becomes a pseudonym, and nothing else."""

import pytest
from django.db import IntegrityError, connection, transaction

from coupons import audit
from coupons.models import AuditEntry, Campaign
from coupons.runtime.clock import database_now

PSEUDONYM = f"erased-{'0' * 32}"
pytestmark = pytest.mark.django_db


@pytest.fixture
def entry() -> AuditEntry:
    campaign = Campaign.objects.create(name="of kim", quantity=1, opens_at=database_now())
    audit.record(actor="op", row=campaign, what="Paused", reason="kim asked, kim knows")
    return AuditEntry.objects.get()


def change(statement: str, *, user: str = "kim", pseudonym: str = PSEUDONYM) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('coupons.erased_user', %s, true)", [user])
        cursor.execute("SELECT set_config('coupons.pseudonym', %s, true)", [pseudonym])
        cursor.execute(statement)


def test_an_id_becomes_a_pseudonym(entry: AuditEntry) -> None:
    change(f"UPDATE coupons_auditentry SET reason = replace(reason, 'kim', '{PSEUDONYM}')")

    entry.refresh_from_db()
    assert entry.reason == f"{PSEUDONYM} asked, {PSEUDONYM} knows"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE coupons_auditentry SET reason = 'another'",
        f"UPDATE coupons_auditentry SET reason = '{PSEUDONYM} asked'",
        f"UPDATE coupons_auditentry SET reason = replace(reason, 'kim', '{PSEUDONYM}'), actor = 'you'",
        "UPDATE coupons_auditentry SET at = at + interval '1 day'",
        "DELETE FROM coupons_auditentry",
        "TRUNCATE coupons_auditentry",
    ],
)
@pytest.mark.attack(
    "editing the audit as if a user was erased",
    "an edit of the text, of the actor, of the time, DELETE and TRUNCATE, with the settings of an erasure",
    "refused by a trigger that puts the id back and compares",
)
def test_nothing_else_changes(entry: AuditEntry, statement: str) -> None:
    with pytest.raises(IntegrityError, match="is final"):
        change(statement)

    assert AuditEntry.objects.values().get() == {**AuditEntry.objects.values().get(), "reason": "kim asked, kim knows"}


def test_a_pseudonym_of_another_form_is_refused(entry: AuditEntry) -> None:
    with pytest.raises(IntegrityError, match="is final"):
        change("UPDATE coupons_auditentry SET reason = replace(reason, 'kim', 'lee')", pseudonym="lee")
