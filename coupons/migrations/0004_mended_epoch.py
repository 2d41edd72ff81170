"""Know an older copy of Redis from the one that was mended last (docs/decisions/0010)."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("coupons", "0003_every_mends_ends")]
    operations = [
        migrations.AddField(
            "campaign",
            "mended_epoch",
            models.PositiveBigIntegerField(
                db_default=0, editable=False, help_text="The epoch of the last mend that Redis has taken over"
            ),
        ),
    ]
