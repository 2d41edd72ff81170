"""Records for running the service: read offsets, API keys, the audit, log-in attempts, scheduled jobs."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from coupons.models.campaigns import MAX_USER_ID_LENGTH, Campaign


class PartitionOffset(models.Model):
    """How far the consumers have read a partition: every message below `next_offset` is a coupon or a failed event.

    Written in the transaction of those rows (messaging/read_offsets.py). `end_offset` is the furthest end of the log
    that a keeper has seen, and `topic_id` is Kafka's id of the topic at that time. A log that ends earlier was cut, and
    one with another id was made anew (recovery/cut_logs.py).
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
    """The rights of a caller. A user with a token has APPLY and READ, for the one user that the token names."""

    APPLY = "apply"
    READ = "read"
    MANAGE = "manage"
    REDEEM = "redeem"


class ApiKey(models.Model):
    """A service's credentials: its rights and their end. The key is shown once, and only its digest is stored.

    A random secret of 256 bits needs no slow hash: it cannot be guessed, and every request would pay for the hash.
    """

    name = models.CharField(max_length=100, help_text="The service that uses the key")
    prefix = models.CharField(max_length=8, unique=True, editable=False, help_text="Names the key in logs")
    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256 of the key, in hex")
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope))
    campaigns = ArrayField(
        models.UUIDField(), null=True, blank=True, help_text="The only campaigns of the key; NULL: all"
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.CharField(max_length=150, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_by = models.CharField(max_length=150, blank=True, editable=False)
    revoked_reason = models.TextField(blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="Accurate to about a minute")

    class Meta:
        verbose_name = "API key"
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(name="apikey_has_a_scope", condition=Q(scopes__len__gte=1)),
            # An empty list means no campaign, and must not be taken for all campaigns.
            models.CheckConstraint(
                name="apikey_campaigns_not_empty", condition=Q(campaigns__isnull=True) | Q(campaigns__len__gte=1)
            ),
        ]
        permissions = [("revoke_apikey", "Can revoke API keys")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class AuditEntry(models.Model):
    """One act of an operator: actor, act, time and reason. Written in the transaction of the act (coupons/audit.py).

    Rows are final: a trigger refuses UPDATE, DELETE and TRUNCATE (migration 0007), except that a user's id becomes a
    pseudonym when the user is erased (0016). They name their object without a foreign key, so that they outlive it.
    """

    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150, help_text="A user of the admin, manage.py:USER, or api:KEY")
    kind = models.CharField(max_length=60, help_text="The model of the object: coupons.campaign")
    object_id = models.CharField(max_length=64)
    object_name = models.CharField(max_length=250, help_text="The name of the object at that time")
    what = models.TextField()
    reason = models.TextField(blank=True)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=("kind", "object_id", "id"), name="audit_by_object"),
            models.Index(fields=("actor", "id"), name="audit_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.what} ({self.object_name})"


class ErasedTicket(models.Model):
    """A ticket whose user was erased (coupons/erasing/). It recognises the user's id, without storing it, in what may
    still come: a message of the topic, or an older copy of Redis.

    `digest` is an HMAC of campaign and user id with a code key (issuing/erased.py).
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.PROTECT, db_index=False)
    digest = models.CharField(max_length=64)
    code_key = models.CharField(max_length=80)
    pseudonym = models.CharField(max_length=MAX_USER_ID_LENGTH)
    erased_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "erased ticket"
        constraints = [models.UniqueConstraint(fields=("campaign", "digest"), name="erasedticket_one_per_user")]

    def __str__(self) -> str:
        return self.pseudonym


class LogInCount(models.Model):
    """Counts attempts to log in: by address, by name, by browser, or all (coupons/admin/log_in_counts.py)."""

    key = models.CharField(
        max_length=64, primary_key=True, help_text="A hash, because people may type a password there"
    )
    attempts = models.PositiveIntegerField()
    until = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = "log-in count"

    def __str__(self) -> str:
        return f"{self.attempts} until {self.until:%H:%M:%S}"


class Heartbeat(models.Model):
    """When a program last went around its loop (coupons/runtime/heartbeats.py). Its processes share the row."""

    program = models.CharField(max_length=20, primary_key=True)
    beat_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.program} at {self.beat_at:%H:%M:%S}"


class GivenAnswer(models.Model):
    """The answer to a request that must not be done twice, for a day (coupons/runtime/given_answers.py).

    `answer` is NULL while the first request is at work, and stays NULL if its process is killed meanwhile.
    """

    key = models.CharField(max_length=64, primary_key=True, help_text="SHA-256 of the caller and the request's own id")
    request = models.CharField(max_length=64, help_text="SHA-256 of what was asked for")
    answer = models.BinaryField(null=True)
    at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        verbose_name = "given answer"

    def __str__(self) -> str:
        return self.key[:8]


class JobRun(models.Model):
    """The last run of a scheduled job, one row per job. cron swallows output and exit codes, so this row keeps them."""

    name = models.CharField(max_length=64, primary_key=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    succeeded = models.BooleanField(null=True, help_text="Empty while the job runs, or when it was killed")
    result = models.TextField(blank=True)

    class Meta:
        verbose_name = "scheduled job"

    def __str__(self) -> str:
        return self.name
