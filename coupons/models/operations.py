"""What running the service needs: offsets that were read, API keys, the audit, log-ins, scheduled jobs."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class PartitionOffset(models.Model):
    """How far the consumers have read a partition: everything below `next_offset` is a coupon or a failed event.

    Written in the transaction that writes those rows, so it is right whatever becomes of the group's offsets in Kafka:
    the rebuild, the relay and the ledger read this one. `end_offset` is the furthest end of the log that a keeper has
    seen, and `topic_id` Kafka's own id of the topic then; a log that ends earlier was cut, and one with another id was
    made anew (coupons/recovery/cut_logs.py).
    """

    topic = models.CharField(max_length=249)
    partition = models.PositiveIntegerField()
    next_offset = models.PositiveBigIntegerField()
    end_offset = models.PositiveBigIntegerField(db_default=0)
    topic_id = models.CharField(max_length=64, db_default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=("topic", "partition"), name="partitionoffset_one_per_partition")]

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.next_offset}"


class Scope(models.TextChoices):
    """What a caller may do. A user with a token has APPLY and READ, for the one user that it names."""

    APPLY = "apply"
    READ = "read"
    MANAGE = "manage"


class ApiKey(models.Model):
    """A service's credentials: what it may do and until when. The key itself is shown once and stored nowhere.

    A random secret of 256 bits needs no slow hash: nobody guesses it, and every request would pay for one.
    """

    name = models.CharField(max_length=100, help_text="Which service has it")
    prefix = models.CharField(max_length=8, unique=True, editable=False, help_text="What logs and people call it")
    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256 of the key, in hex")
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope))
    campaigns = ArrayField(models.UUIDField(), null=True, blank=True, help_text="The only ones it may touch; NULL: all")
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.CharField(max_length=150, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_by = models.CharField(max_length=150, blank=True, editable=False)
    revoked_reason = models.TextField(blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="Within a minute or so")

    class Meta:
        verbose_name = "API key"
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(name="apikey_has_a_scope", condition=Q(scopes__len__gte=1)),
            # An empty list means none of them, and must not be read as all of them.
            models.CheckConstraint(
                name="apikey_campaigns_not_empty", condition=Q(campaigns__isnull=True) | Q(campaigns__len__gte=1)
            ),
        ]
        permissions = [("revoke_apikey", "Can revoke API keys")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class AuditEntry(models.Model):
    """Who did what, when and why. Written in the transaction of what was done (coupons/audit.py).

    Rows are final: a trigger refuses UPDATE, DELETE and TRUNCATE (migration 0007). They name what they are about and
    point to nothing, so that they outlive it.
    """

    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150, help_text="A user of the admin, manage.py:USER, or api:KEY")
    kind = models.CharField(max_length=60, help_text="The model of what it is about: coupons.campaign")
    object_id = models.CharField(max_length=64)
    object_name = models.CharField(max_length=250, help_text="As it was called then")
    what = models.TextField()
    reason = models.TextField(blank=True)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit: who did what"
        indexes = [
            models.Index(fields=("kind", "object_id", "id"), name="audit_by_object"),
            models.Index(fields=("actor", "id"), name="audit_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.what} ({self.object_name})"


class LogInCount(models.Model):
    """Attempts to log in, of one address, one name, one browser or all (coupons/admin/log_in_counts.py)."""

    key = models.CharField(
        max_length=64, primary_key=True, help_text="A hash: what people type there may be a password"
    )
    attempts = models.PositiveIntegerField()
    until = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = "log-in count"

    def __str__(self) -> str:
        return f"{self.attempts} until {self.until:%H:%M:%S}"


class JobRun(models.Model):
    """The last run of a scheduled job, one row a job: cron swallows output and exit codes, this does not."""

    name = models.CharField(max_length=64, primary_key=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    succeeded = models.BooleanField(null=True, help_text="Empty while it runs, or when it was killed")
    result = models.TextField(blank=True)

    class Meta:
        verbose_name = "scheduled job"

    def __str__(self) -> str:
        return self.name
