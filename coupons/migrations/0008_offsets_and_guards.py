"""Offsets in the database that they are about; no coupon of what was given up, no SUCCESS without a coupon.

The trigger on the coupon table looks for given-up tickets after it has taken the campaign's row, and giving up takes that
row, too: whichever of the two comes second sees the other (coupons/issuing/failed_events.py). Only codes that stand for a ticket
count: one that was refused as `not-admitted` may be given to the same user again later, with the same sequence.
"""

from django.db import migrations, models

COUNT_ISSUED = """
CREATE OR REPLACE FUNCTION coupons_count_issued() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    added record;
BEGIN
    FOR added IN
        SELECT campaign_id, count(*) AS coupons FROM inserted GROUP BY campaign_id ORDER BY campaign_id
    LOOP
        UPDATE coupons_campaign SET issued_count = issued_count + added.coupons WHERE id = added.campaign_id;
        {check}
    END LOOP;
    RETURN NULL;
END
$$;
"""
REFUSE_GIVEN_UP = """
        IF EXISTS (
            SELECT FROM coupons_faileventhistory WHERE campaign_id = added.campaign_id AND given_up_at IS NOT NULL
        ) AND EXISTS (
            SELECT FROM inserted AS coupon JOIN coupons_faileventhistory AS event USING (campaign_id, user_id, sequence)
            WHERE coupon.campaign_id = added.campaign_id AND event.given_up_at IS NOT NULL
                AND event.error_code IN ('conflict', 'quantity-exceeded', 'database-refused')
        ) THEN
            RAISE EXCEPTION 'an operator gave this ticket up'
                USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'coupon_not_given_up';
        END IF;
"""
SUCCESS_HAS_COUPON = """
CREATE FUNCTION coupons_success_has_coupon() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM coupons_coupon
        WHERE campaign_id = NEW.campaign_id AND user_id = NEW.user_id AND sequence = NEW.sequence
    ) THEN
        RAISE EXCEPTION 'failed event % cannot be SUCCESS: its ticket has no coupon', NEW.id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'failevent_success_has_coupon';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER failevent_success_has_coupon AFTER INSERT OR UPDATE OF event_status ON coupons_faileventhistory
    FOR EACH ROW WHEN (NEW.event_status = 'SUCCESS') EXECUTE FUNCTION coupons_success_has_coupon();
"""
SUCCESS_NEEDS_NOTHING = """
DROP TRIGGER failevent_success_has_coupon ON coupons_faileventhistory;
DROP FUNCTION coupons_success_has_coupon();
"""


class Migration(migrations.Migration):
    dependencies = [("coupons", "0007_audit")]
    operations = [
        migrations.CreateModel(
            name="PartitionOffset",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("topic", models.CharField(max_length=249)),
                ("partition", models.PositiveIntegerField()),
                ("next_offset", models.PositiveBigIntegerField()),
                ("end_offset", models.PositiveBigIntegerField(db_default=0)),
                ("topic_id", models.CharField(db_default="", max_length=64)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("topic", "partition"), name="partitionoffset_one_per_partition")
                ],
            },
        ),
        migrations.AddIndex(
            model_name="faileventhistory",
            index=models.Index(
                condition=models.Q(("given_up_at__isnull", False)),
                fields=["campaign", "user_id"],
                name="failevent_given_up",
            ),
        ),
        migrations.RunSQL(COUNT_ISSUED.format(check=REFUSE_GIVEN_UP), COUNT_ISSUED.format(check="")),
        migrations.RunSQL(SUCCESS_HAS_COUPON, SUCCESS_NEEDS_NOTHING),
    ]
