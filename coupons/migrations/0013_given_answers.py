"""The answers to requests that must not be done twice (docs/decisions/0032)."""

import django.db.models.functions.datetime
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [
        ("coupons", "0010_plain_help_texts"),
    ]

    operations = [
        migrations.CreateModel(
            name="GivenAnswer",
            fields=[
                (
                    "key",
                    models.CharField(
                        help_text="SHA-256 of the caller and the request's own id",
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("request", models.CharField(help_text="SHA-256 of what was asked for", max_length=64)),
                ("answer", models.BinaryField(null=True)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True)),
            ],
            options={"verbose_name": "given answer"},
        ),
    ]
