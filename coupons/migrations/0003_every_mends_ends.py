"""Keep the topic's ends of every mend, not of the last one alone (docs/decisions/0010)."""

from django.db import migrations, models

UNDER_THEIR_EPOCH = """
UPDATE coupons_campaign SET log_ends = jsonb_build_object(log_epoch::text, log_ends) WHERE log_ends IS NOT NULL;
UPDATE coupons_campaign SET log_ends = '{}' WHERE log_ends IS NULL;
"""
THE_LAST_ALONE = """
UPDATE coupons_campaign SET log_ends = (
    SELECT ends.value FROM jsonb_each(log_ends) AS ends ORDER BY ends.key::bigint DESC LIMIT 1
), log_epoch = coalesce((SELECT max(epoch::bigint) FROM jsonb_object_keys(log_ends) AS epoch), 0);
"""


class Migration(migrations.Migration):
    dependencies = [("coupons", "0002_count_issued")]
    operations = [
        migrations.RunSQL(UNDER_THEIR_EPOCH, THE_LAST_ALONE),
        migrations.RemoveField("campaign", "log_epoch"),
        migrations.AlterField(
            "campaign",
            "log_ends",
            models.JSONField(
                db_default=models.Value({}, output_field=models.JSONField()),
                editable=False,
                help_text="Where each mend found the topic's end: epoch -> partition -> offset",
            ),
        ),
    ]
