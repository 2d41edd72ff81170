"""The database itself refuses more coupons than the quantity, whoever inserts (docs/design.md, I1).

A CHECK alone cannot: it sees one row of coupons_campaign, and an INSERT into coupons_coupon does not touch it. So a
statement-level trigger raises the count from the transition table. Campaigns in id order: two batches that both hold
coupons of A and B lock A first. A plain UPDATE takes FOR NO KEY UPDATE, which goes together with the KEY SHARE that
the foreign key takes; FOR UPDATE would deadlock with it.
"""

from django.db import migrations

CREATE = """
CREATE FUNCTION coupons_count_issued() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    added record;
BEGIN
    FOR added IN
        SELECT campaign_id, count(*) AS coupons FROM inserted GROUP BY campaign_id ORDER BY campaign_id
    LOOP
        UPDATE coupons_campaign SET issued_count = issued_count + added.coupons WHERE id = added.campaign_id;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER coupon_count_issued AFTER INSERT ON coupons_coupon
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION coupons_count_issued();
"""
DROP = """
DROP TRIGGER coupon_count_issued ON coupons_coupon;
DROP FUNCTION coupons_count_issued();
"""


class Migration(migrations.Migration):
    dependencies = [("coupons", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
