"""Messages that could not become coupons, and their retries."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from coupons.models.campaigns import MAX_USER_ID_LENGTH, Campaign


class EventStatus(models.TextChoices):
    FAIL = "FAIL"
    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"


class FailCode(models.TextChoices):
    """Why a message could not become a coupon, whether it may be a promise, and whether a retry can help."""

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
        """Whether the gate held this ticket when the row was written, so that it may have been promised."""
        return self in HELD_CODES

    @property
    def retried_by_itself(self) -> bool:
        """Whether a later attempt can end differently without an operator's decision."""
        return self in (FailCode.QUANTITY_EXCEEDED, FailCode.DATABASE_REFUSED)


HELD_CODES = (FailCode.CONFLICT, FailCode.QUANTITY_EXCEEDED, FailCode.DATABASE_REFUSED)
GIVEN_UP = Q(given_up_at__isnull=False)


class FailEventHistory(models.Model):
    """One message that could not become a coupon at first.

    The database itself refuses SUCCESS while the ticket has no coupon, and a coupon for a ticket that was given up
    (migration 0008).

    The scheduled retry takes a row up at `next_attempt_at`; NULL waits for an operator. While a retry works on the row,
    the status is PROCESSING and `next_attempt_at` is the end of that run's lease. After it another run takes over.
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
            # Partial indexes stay small while the history grows: for the retry, the ledger and the operators' list.
            models.Index(fields=("next_attempt_at",), name="failevent_due", condition=Q(next_attempt_at__isnull=False)),
            models.Index(fields=("campaign", "user_id"), name="failevent_open", condition=~Q(event_status="SUCCESS")),
            models.Index(fields=("id",), name="failevent_open_newest", condition=~Q(event_status="SUCCESS")),
            # The trigger on the coupon table uses this one at every insert (migration 0008).
            models.Index(fields=("campaign", "user_id"), name="failevent_given_up", condition=GIVEN_UP),
        ]
        permissions = [
            ("retry_failed_event", "Can retry failed events"),
            ("give_up_failed_event", "Can give up failed events"),
        ]

    def __str__(self) -> str:
        return f"{self.error_code} at {self.topic}[{self.partition}]@{self.offset}"


class FailAttempt(models.Model):
    """One retry of a failed event: its time, actor and result."""

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
