"""The answers to requests that must not be done twice (docs/decisions/0033), and composed names.

Names were stored as they were typed. A search composes its term by now, and would not find a name in the decomposed form
that a Mac sends.
"""

import unicodedata

import django.db.models.functions.datetime
from django.db import migrations, models

NAMED = [
    ("coupons", "Campaign", "name"),
    ("coupons", "ApiKey", "name"),
    ("auth", "Group", "name"),
    ("auth", "User", "first_name"),
    ("auth", "User", "last_name"),
]


def compose_names(apps, schema_editor):
    """Leaves out a name that would become too long, and a group's that another group has."""
    for label, model, field in NAMED:
        rows = apps.get_model(label, model).objects.order_by()
        longest = rows.model._meta.get_field(field).max_length
        is_unique = rows.model._meta.get_field(field).unique
        for pk, name in list(rows.values_list("pk", field)):
            composed = unicodedata.normalize("NFC", name)
            if composed == name or len(composed) > longest:
                continue
            if is_unique and rows.filter(**{field: composed}).exists():
                continue
            rows.filter(pk=pk).update(**{field: composed})


class Migration(migrations.Migration):
    dependencies = [
        ("coupons", "0012_unloaded_campaigns"),
        ("auth", "0012_alter_user_first_name_max_length"),
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
        migrations.RunPython(compose_names, migrations.RunPython.noop),
    ]
