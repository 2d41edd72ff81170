"""When a campaign was closed, and when it left Redis for good (coupons/reconciliation/unload.py)."""

from django.db import migrations, models

# The last change of a closed campaign is its closing, or a rebuild after it.
CLOSED_AT = "UPDATE coupons_campaign SET closed_at = updated_at WHERE state = 'closed'"


class Migration(migrations.Migration):
    dependencies = [("coupons", "0011_heartbeats")]

    operations = [
        migrations.AddField("campaign", "closed_at", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("campaign", "unloaded_at", models.DateTimeField(editable=False, null=True)),
        migrations.RunSQL(CLOSED_AT, migrations.RunSQL.noop),
        migrations.AddConstraint(
            "campaign",
            models.CheckConstraint(
                name="campaign_unloaded_is_closed",
                condition=models.Q(("unloaded_at__isnull", True), ("state", "closed"), _connector="OR"),
            ),
        ),
    ]
