"""Services' API keys that are made and revoked while the service runs (docs/decisions/0014)."""


import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('coupons', '0004_mended_epoch'),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='Which service has it', max_length=100)),
                ('prefix', models.CharField(editable=False, help_text='What logs and people call it', max_length=8, unique=True)),
                ('digest', models.CharField(editable=False, help_text='SHA-256 of the key, in hex', max_length=64, unique=True)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('apply', 'Apply'), ('read', 'Read'), ('manage', 'Manage')], max_length=10), size=None)),
                ('campaigns', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), blank=True, help_text='The only ones it may touch; NULL: all', null=True, size=None)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('created_by', models.CharField(editable=False, max_length=150)),
                ('revoked_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('revoked_by', models.CharField(blank=True, editable=False, max_length=150)),
                ('revoked_reason', models.TextField(blank=True, editable=False)),
                ('last_used_at', models.DateTimeField(editable=False, help_text='Within a minute or so', null=True)),
            ],
            options={
                'verbose_name': 'API key',
                'ordering': ('-id',),
                'permissions': [('revoke_apikey', 'Can revoke API keys')],
                'constraints': [models.CheckConstraint(condition=models.Q(('scopes__len__gte', 1)), name='apikey_has_a_scope'), models.CheckConstraint(condition=models.Q(('campaigns__isnull', True), ('campaigns__len__gte', 1), _connector='OR'), name='apikey_campaigns_not_empty')],
            },
        ),
    ]
