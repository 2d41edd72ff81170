"""What PostgreSQL stores: campaigns, coupons, failed events, API keys, what people did, the runs of scheduled jobs."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

MAX_QUANTITY = 10_000_000
MAX_USER_ID_LENGTH = 128


class CampaignState(models.TextChoices):
    DRAFT = "draft"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class Campaign(models.Model):
    """One first-come-first-served offer.

    `revision` rises with every change that Redis must hear of; `epoch` rises with every rebuild (0 = never loaded), and
    `mended_epoch` follows it when that rebuild has ended: what Redis shows of an older one is an older copy.
    `issued_count` is kept by a trigger on the coupon table (migration 0002), never by this program.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)
    quantity = models.PositiveIntegerField()
    opens_at = models.DateTimeField()
    closes_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=CampaignState, default=CampaignState.DRAFT, editable=False)
    revision = models.PositiveBigIntegerField(default=0, editable=False)
    epoch = models.PositiveBigIntegerField(default=0, editable=False)
    mended_epoch = models.PositiveBigIntegerField(
        db_default=0, editable=False, help_text="The epoch of the last rebuild that Redis has taken over"
    )
    issued_count = models.PositiveIntegerField(default=0, editable=False)
    log_ends = models.JSONField(
        db_default=models.Value({}, output_field=models.JSONField()),
        editable=False,
        help_text="Where each rebuild found the topic's end: epoch -> partition -> offset",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(
                name="campaign_quantity_in_range", condition=Q(quantity__gte=1, quantity__lte=MAX_QUANTITY)
            ),
            models.CheckConstraint(
                name="campaign_closes_after_it_opens",
                condition=Q(closes_at__isnull=True) | Q(closes_at__gt=F("opens_at")),
                violation_error_message="closes_at: it must be later than opens_at.",
            ),
            models.CheckConstraint(
                name="campaign_issued_within_quantity", condition=Q(issued_count__lte=F("quantity"))
            ),
        ]
        permissions = [("operate_campaign", "Can open, pause, resume, close and resize campaigns")]

    def __str__(self) -> str:
        return self.name


class Coupon(models.Model):
    """One issued coupon. Rows are never changed and never deleted.

    The index of `coupon_one_per_user` starts with the user, so it also serves an operator's search by user.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.PROTECT, related_name="coupons", db_index=False)
    user_id = models.CharField(max_length=MAX_USER_ID_LENGTH)
    sequence = models.PositiveBigIntegerField()
    code = models.CharField(max_length=32)
    issued_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=("user_id", "campaign"), name="coupon_one_per_user"),
            models.UniqueConstraint(fields=("campaign", "sequence"), name="coupon_one_per_sequence"),
            models.UniqueConstraint(fields=("code",), name="coupon_code_unique"),
        ]
        permissions = [("see_code", "Can see the codes of coupons")]

    def __str__(self) -> str:
        return f"{self.user_id} #{self.sequence}"


class EventStatus(models.TextChoices):
    FAIL = "FAIL"
    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"


class FailCode(models.TextChoices):
    """Why a message could not become a coupon, and who may do something about it."""

    INVALID_MESSAGE = "invalid-message"
    UNAUTHENTIC = "unauthentic"
    UNKNOWN_VERSION = "unknown-version"
    UNKNOWN_CAMPAIGN = "unknown-campaign"
    NOT_ADMITTED = "not-admitted"
    CONFLICT = "conflict"
    QUANTITY_EXCEEDED = "quantity-exceeded"
    DATABASE_REFUSED = "database-refused"

    @property
    def holds_ticket(self) -> bool:
        """Whether the gate held this ticket when the row was written: somebody may have been promised a coupon."""
        return self in HELD_CODES

    @property
    def retried_by_itself(self) -> bool:
        """Whether a later attempt can end differently without an operator's decision."""
        return self in (FailCode.QUANTITY_EXCEEDED, FailCode.DATABASE_REFUSED)


HELD_CODES = (FailCode.CONFLICT, FailCode.QUANTITY_EXCEEDED, FailCode.DATABASE_REFUSED)
GIVEN_UP = Q(given_up_at__isnull=False)


class FailEventHistory(models.Model):
    """One message that could not become a coupon as it stood, and everything that was tried since.

    The database itself refuses SUCCESS while the ticket has no coupon, and a coupon for a ticket that was given up
    (migration 0008).

    `next_attempt_at` is when the scheduled retry takes it up: NULL waits for an operator. While a retry works on it
    the status is PROCESSING and `next_attempt_at` the end of that run's lease, after which another run takes over.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.PROTECT, null=True, blank=True, db_index=False)
    campaign_ref = models.CharField(max_length=200, blank=True, help_text="The campaign id as the message names it")
    user_id = models.CharField(max_length=MAX_USER_ID_LENGTH, blank=True)
    sequence = models.PositiveBigIntegerField(null=True, blank=True)
    payload = models.BinaryField(help_text="The message as received")
    payload_hash = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the payload, in hex")
    error_code = models.CharField(max_length=32, choices=FailCode)
    error_message = models.TextField()
    event_status = models.CharField(max_length=10, choices=EventStatus, default=EventStatus.FAIL)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    topic = models.CharField(max_length=249)
    partition = models.PositiveIntegerField()
    offset = models.PositiveBigIntegerField()
    given_up_at = models.DateTimeField(null=True, blank=True)
    given_up_by = models.CharField(max_length=150, blank=True)
    given_up_reason = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "failed event"
        verbose_name_plural = "failed events"
        constraints = [
            # A redelivery adds no second row; the same offset of a topic made anew, with other bytes, does.
            models.UniqueConstraint(
                fields=("topic", "partition", "offset", "payload_hash"), name="failevent_one_per_message"
            ),
        ]
        indexes = [
            models.Index(fields=("user_id", "campaign"), name="failevent_by_user"),
            models.Index(fields=("campaign", "id"), name="failevent_by_campaign"),
            models.Index(fields=("error_code", "id"), name="failevent_by_code"),
            # What stays small however large the history grows: the retry's queue, the ledger's, the operators' list.
            models.Index(fields=("next_attempt_at",), name="failevent_due", condition=Q(next_attempt_at__isnull=False)),
            models.Index(fields=("campaign", "user_id"), name="failevent_open", condition=~Q(event_status="SUCCESS")),
            models.Index(fields=("id",), name="failevent_open_newest", condition=~Q(event_status="SUCCESS")),
            # The trigger on the coupon table asks it at every insert (migration 0008).
            models.Index(fields=("campaign", "user_id"), name="failevent_given_up", condition=GIVEN_UP),
        ]
        permissions = [
            ("retry_failed_event", "Can retry failed events"),
            ("give_up_failed_event", "Can give up failed events"),
        ]

    def __str__(self) -> str:
        return f"{self.error_code} at {self.topic}[{self.partition}]@{self.offset}"


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


class FailAttempt(models.Model):
    """One retry of a failed event: when, by whom, and what it said."""

    event = models.ForeignKey(FailEventHistory, on_delete=models.PROTECT, related_name="tried")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150)
    error_code = models.CharField(max_length=32, blank=True, help_text="Empty: the coupon was issued")
    error_message = models.TextField(blank=True)

    class Meta:
        verbose_name = "attempt"

    def __str__(self) -> str:
        return self.error_code or EventStatus.SUCCESS


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
