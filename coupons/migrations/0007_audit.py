"""Who did what, when and why, final; the groups of people; how often somebody tried to log in (docs/decisions/0018).

A trigger refuses UPDATE, DELETE and TRUNCATE, whoever asks. The table's owner could drop it: give the service a role of
its own where that matters. What people did before this migration is taken over from Django's log, without a reason.

Permissions are rows that Django makes after all migrations; the groups need them here, so they are made here as well,
in the same way. A group of that name that is there already keeps what it has, and gets these in addition.
"""

import django.db.models.functions.datetime
from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations, models

SEE = [
    "coupons.view_campaign",
    "coupons.view_coupon",
    "coupons.view_faileventhistory",
    "coupons.view_apikey",
    "coupons.view_auditentry",
    "coupons.view_jobrun",
]
GROUPS = {
    "auditors": [*SEE, "auth.view_user", "auth.view_group"],
    "operators": [
        *SEE,
        "coupons.see_code",
        "coupons.add_campaign",
        "coupons.operate_campaign",
        "coupons.retry_failed_event",
        "coupons.give_up_failed_event",
        "coupons.add_apikey",
        "coupons.revoke_apikey",
    ],
}

FINAL = """
CREATE FUNCTION coupons_audit_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'coupons_auditentry is final: % refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER auditentry_not_changed BEFORE UPDATE OR DELETE ON coupons_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION coupons_audit_is_final();
CREATE TRIGGER auditentry_not_emptied BEFORE TRUNCATE ON coupons_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION coupons_audit_is_final();
"""
NO_LONGER_FINAL = """
DROP TRIGGER auditentry_not_emptied ON coupons_auditentry;
DROP TRIGGER auditentry_not_changed ON coupons_auditentry;
DROP FUNCTION coupons_audit_is_final();
"""
TAKE_OVER = """
INSERT INTO coupons_auditentry (at, actor, kind, object_id, object_name, what, reason)
SELECT log.action_time, person.username, kind.app_label || '.' || kind.model, left(log.object_id, 64),
       left(log.object_repr, 250), log.change_message, ''
FROM django_admin_log AS log
JOIN auth_user AS person ON person.id = log.user_id
JOIN django_content_type AS kind ON kind.id = log.content_type_id
WHERE kind.app_label = 'coupons' AND log.object_id IS NOT NULL
ORDER BY log.id;
"""


def make_groups(apps, schema_editor):
    Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for label in ("auth", "coupons"):
        # Only models_module is asked of the installed app; its models are taken from `apps`, as they are by now.
        create_permissions(installed.get_app_config(label), apps=apps, verbosity=0)
    for name, rights in GROUPS.items():
        group, _ = Group.objects.get_or_create(name=name)
        for right in rights:
            label, codename = right.split(".")
            group.permissions.add(Permission.objects.get(content_type__app_label=label, codename=codename))


class Migration(migrations.Migration):
    dependencies = [
        ("coupons", "0006_unauthentic_messages"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]
    operations = [
        migrations.AlterModelOptions(
            name="coupon",
            options={"permissions": [("see_code", "Can see the codes of coupons")]},
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("actor", models.CharField(help_text="A user of the admin, manage.py:USER, or api:KEY", max_length=150)),
                ("kind", models.CharField(help_text="The model of what it is about: coupons.campaign", max_length=60)),
                ("object_id", models.CharField(max_length=64)),
                ("object_name", models.CharField(help_text="As it was called then", max_length=250)),
                ("what", models.TextField()),
                ("reason", models.TextField(blank=True)),
            ],
            options={
                "verbose_name": "audit entry",
                "verbose_name_plural": "audit: who did what",
                "indexes": [
                    models.Index(fields=["kind", "object_id", "id"], name="audit_by_object"),
                    models.Index(fields=["actor", "id"], name="audit_by_actor"),
                ],
            },
        ),
        migrations.CreateModel(
            name="LogInCount",
            fields=[
                (
                    "key",
                    models.CharField(
                        help_text="A hash: what people type there may be a password",
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("attempts", models.PositiveIntegerField()),
                ("until", models.DateTimeField(db_index=True)),
            ],
            options={"verbose_name": "log-in count"},
        ),
        migrations.RunSQL(TAKE_OVER, migrations.RunSQL.noop),
        migrations.RunSQL(FINAL, NO_LONGER_FINAL),
        migrations.RunPython(make_groups, migrations.RunPython.noop),
    ]
