"""How long coupons are good, what the shop says of them, and the key that their codes are derived with.

A migration of its own: it locks the campaigns' table and the next one the coupons', as no transaction locks both while
consumers write. Campaigns that are open by now keep the empty key, and so their random codes.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("coupons", "0013_given_answers")]
    operations = [
        migrations.AddField(
            model_name="campaign",
            name="code_key",
            field=models.CharField(blank=True, db_default="", editable=False, max_length=80),
        ),
        migrations.AddField(
            model_name="campaign",
            name="metadata",
            field=models.JSONField(
                blank=True, db_default=models.Value({}, output_field=models.JSONField()), default=dict
            ),
        ),
        migrations.AddField(
            model_name="campaign",
            name="valid_days",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="campaign",
            name="valid_from",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="campaign",
            name="valid_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(("valid_until__isnull", True), ("valid_days__isnull", True), _connector="OR"),
                name="campaign_valid_until_or_days",
                violation_error_message="valid_days: give either it or valid_until.",
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("valid_days__isnull", True),
                    models.Q(("valid_days__gte", 1), ("valid_days__lte", 36500)),
                    _connector="OR",
                ),
                name="campaign_valid_days_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("valid_from__isnull", True),
                    ("valid_until__isnull", True),
                    ("valid_until__gt", models.F("valid_from")),
                    _connector="OR",
                ),
                name="campaign_valid_until_after_from",
                violation_error_message="valid_until: it must be later than valid_from.",
            ),
        ),
    ]
