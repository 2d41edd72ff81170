"""Users can be erased: digests of erased ids, and final rows in which an id may become a pseudonym, and nothing else.

The audit and the events of coupons were final whatever was asked (migrations 0007 and 0015). An UPDATE is let through
now in a transaction that has set `coupons.erased_user` and `coupons.pseudonym`, and a second trigger compares each row:
with the id put back in the pseudonym's place it must be what it was. Deleting stays refused.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

TABLES = {"audit": "auditentry", "event": "couponevent"}
FINAL = """
CREATE OR REPLACE FUNCTION coupons_{name}_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {erasing}RAISE EXCEPTION 'coupons_{table} is final: % refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END
$$;
"""
ERASING = """IF TG_OP = 'UPDATE' AND coalesce(current_setting('coupons.erased_user', true), '') <> '' THEN
        RETURN NULL;
    END IF;
    """
ONLY_ERASED = """
CREATE FUNCTION coupons_only_erased() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    erased text := current_setting('coupons.erased_user', true);
    pseudonym text := coalesce(current_setting('coupons.pseudonym', true), '');
BEGIN
    IF pseudonym !~ '^erased-[0-9a-f]{32}$'
        OR replace(to_jsonb(NEW)::text, pseudonym, erased) IS DISTINCT FROM replace(to_jsonb(OLD)::text, pseudonym, erased)
    THEN
        RAISE EXCEPTION '% is final: more than an erased id would change', TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER auditentry_only_erased BEFORE UPDATE ON coupons_auditentry
    FOR EACH ROW EXECUTE FUNCTION coupons_only_erased();
CREATE TRIGGER couponevent_only_erased BEFORE UPDATE ON coupons_couponevent
    FOR EACH ROW EXECUTE FUNCTION coupons_only_erased();
"""
NOT_ERASED = """
DROP TRIGGER couponevent_only_erased ON coupons_couponevent;
DROP TRIGGER auditentry_only_erased ON coupons_auditentry;
DROP FUNCTION coupons_only_erased();
"""


def final(erasing):
    return "".join(FINAL.format(name=name, table=table, erasing=erasing) for name, table in TABLES.items())


class Migration(migrations.Migration):
    dependencies = [("coupons", "0015_redemptions")]
    operations = [
        migrations.CreateModel(
            name="ErasedTicket",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=64)),
                ("code_key", models.CharField(max_length=80)),
                ("pseudonym", models.CharField(max_length=128)),
                ("erased_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "campaign",
                    models.ForeignKey(
                        db_index=False, on_delete=django.db.models.deletion.PROTECT, to="coupons.campaign"
                    ),
                ),
            ],
            options={
                "verbose_name": "erased ticket",
                "constraints": [
                    models.UniqueConstraint(fields=("campaign", "digest"), name="erasedticket_one_per_user")
                ],
            },
        ),
        migrations.RunSQL(ONLY_ERASED, NOT_ERASED),
        migrations.RunSQL(final(ERASING), final("")),
    ]
