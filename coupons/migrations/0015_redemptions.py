"""Redemptions of coupons, and the events of a coupon's life, which are final.

A trigger refuses UPDATE, DELETE and TRUNCATE of events, whoever asks, as for the audit (migration 0007).
"""

import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations, models

SEE = ["view_redemption", "view_couponevent"]
RIGHTS = {"auditors": SEE, "operators": [*SEE, "revoke_coupon", "return_redemption"]}

FINAL = """
CREATE FUNCTION coupons_event_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'coupons_couponevent is final: % refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER couponevent_not_changed BEFORE UPDATE OR DELETE ON coupons_couponevent
    FOR EACH STATEMENT EXECUTE FUNCTION coupons_event_is_final();
CREATE TRIGGER couponevent_not_emptied BEFORE TRUNCATE ON coupons_couponevent
    FOR EACH STATEMENT EXECUTE FUNCTION coupons_event_is_final();
"""
NO_LONGER_FINAL = """
DROP TRIGGER couponevent_not_emptied ON coupons_couponevent;
DROP TRIGGER couponevent_not_changed ON coupons_couponevent;
DROP FUNCTION coupons_event_is_final();
"""


def extend_groups(apps, schema_editor):
    """Gives the groups of migration 0007 the rights to what is new here."""
    Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    create_permissions(installed.get_app_config("coupons"), apps=apps, verbosity=0)
    for name, codenames in RIGHTS.items():
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.add(*Permission.objects.filter(content_type__app_label="coupons", codename__in=codenames))


class Migration(migrations.Migration):
    dependencies = [("coupons", "0014_validity_and_code_keys")]
    operations = [
        migrations.CreateModel(
            name="Redemption",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("order_ref", models.CharField(max_length=128)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("held", "Held"),
                            ("redeemed", "Redeemed"),
                            ("returned", "Returned"),
                            ("lapsed", "Lapsed"),
                        ],
                        max_length=10,
                    ),
                ),
                ("hold_until", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("redeemed_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(help_text="When it was returned, or its hold lapsed", null=True)),
                (
                    "coupon",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="redemptions",
                        to="coupons.coupon",
                    ),
                ),
            ],
            options={
                "permissions": [("return_redemption", "Can return redemptions")],
            },
        ),
        migrations.CreateModel(
            name="CouponEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("held", "Held"),
                            ("redeemed", "Redeemed"),
                            ("returned", "Returned"),
                            ("lapsed", "Lapsed"),
                            ("revoked", "Revoked"),
                        ],
                        max_length=10,
                    ),
                ),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "actor",
                    models.CharField(
                        help_text="api:KEY, a user of the admin, manage.py:USER, or a job", max_length=150
                    ),
                ),
                ("reason", models.TextField(blank=True)),
                (
                    "coupon",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="events",
                        to="coupons.coupon",
                    ),
                ),
                (
                    "redemption",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="events",
                        to="coupons.redemption",
                    ),
                ),
            ],
            options={
                "verbose_name": "coupon event",
            },
        ),
        migrations.AlterModelOptions(
            name="coupon",
            options={
                "permissions": [("see_code", "Can see the codes of coupons"), ("revoke_coupon", "Can revoke coupons")]
            },
        ),
        migrations.AlterField(
            model_name="apikey",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[("apply", "Apply"), ("read", "Read"), ("manage", "Manage"), ("redeem", "Redeem")],
                    max_length=10,
                ),
                size=None,
            ),
        ),
        migrations.AddIndex(
            model_name="redemption",
            index=models.Index(fields=["order_ref"], name="redemption_by_order"),
        ),
        migrations.AddIndex(
            model_name="redemption",
            index=models.Index(condition=models.Q(("state", "held")), fields=["hold_until"], name="redemption_held"),
        ),
        migrations.AddConstraint(
            model_name="redemption",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("held", "redeemed"))), fields=("coupon",), name="redemption_one_live"
            ),
        ),
        migrations.AddConstraint(
            model_name="redemption",
            constraint=models.UniqueConstraint(fields=("coupon", "order_ref"), name="redemption_one_per_order"),
        ),
        migrations.AddConstraint(
            model_name="redemption",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("hold_until__isnull", False), ("redeemed_at__isnull", True), ("state", "held")),
                    models.Q(("ended_at__isnull", True), ("redeemed_at__isnull", False), ("state", "redeemed")),
                    models.Q(("ended_at__isnull", False), ("state", "returned")),
                    models.Q(("ended_at__isnull", False), ("hold_until__isnull", False), ("state", "lapsed")),
                    _connector="OR",
                ),
                name="redemption_times_fit_state",
            ),
        ),
        migrations.AddIndex(
            model_name="couponevent",
            index=models.Index(fields=["coupon", "id"], name="couponevent_by_coupon"),
        ),
        migrations.AddConstraint(
            model_name="couponevent",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind", "revoked")), fields=("coupon",), name="couponevent_revoked_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="couponevent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "revoked"), ("redemption__isnull", True)),
                    models.Q(models.Q(("kind", "revoked"), _negated=True), ("redemption__isnull", False)),
                    _connector="OR",
                ),
                name="couponevent_names_redemption",
            ),
        ),
        migrations.RunSQL(FINAL, NO_LONGER_FINAL),
        migrations.RunPython(extend_groups, migrations.RunPython.noop),
    ]
