"""Replaces a user's id by a pseudonym in the rows of PostgreSQL, inside the caller's transaction.

In rows of the user's own coupons and failed events the id is replaced wherever it stands as a word. Elsewhere a short
id ("42") is an ordinary word or number, so other rows are searched only for an id that can hardly be one.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db import connection
from django.db.models import CharField, F, Func, IntegerField, Q, QuerySet, Value

from coupons.models import AuditEntry, Coupon, CouponEvent, FailAttempt, FailEventHistory

MIN_UNMISTAKABLE = 8
AUDIT_TEXTS = ("object_name", "what", "reason")
EVENT_TEXTS = ("campaign_ref", "error_message", "given_up_reason")


@dataclass(slots=True)
class Replaced:
    """Counts the rows that named the user."""

    coupons: int = 0
    failed_events: int = 0
    texts: int = 0

    @property
    def total(self) -> int:
        return self.coupons + self.failed_events + self.texts

    def __str__(self) -> str:
        return f"{self.coupons} coupons, {self.failed_events} failed events, {self.texts} texts of audit and history"


@dataclass(frozen=True)
class IdReplacement:
    user_id: str
    pseudonym: str

    def run(self) -> Replaced:
        """Idempotent. Raises database errors."""
        _let_final_rows_change(self.user_id, self.pseudonym)
        # Failed events before coupons, as a retry locks them. Texts last: whoever held a coupon has written his by now.
        events, coupons = self._replace_in_events(), self._replace_in_coupons()
        texts = self._replace(FailAttempt.objects.filter(event__in=events), "error_message")
        texts += self._replace(CouponEvent.objects.filter(self._everywhere | Q(coupon__in=coupons)), "reason")
        audited = Q(kind=Coupon._meta.label_lower, object_id__in=map(str, coupons))
        audited |= Q(kind=FailEventHistory._meta.label_lower, object_id__in=map(str, events))
        texts += self._replace(AuditEntry.objects.filter(self._everywhere | audited), *AUDIT_TEXTS)
        _let_final_rows_change("", "")
        return Replaced(len(coupons), len(events), texts)

    def is_named_in(self, text: str) -> bool:
        return re.search(self._word, text) is not None

    @cached_property
    def _word(self) -> str:
        """For Python and for PostgreSQL, whose regular expressions agree on these."""
        quoted = re.sub(r"([^A-Za-z0-9_])", r"\\\1", self.user_id)
        return f"(?<![A-Za-z0-9]){quoted}(?![A-Za-z0-9])"

    @property
    def _is_unmistakable(self) -> bool:
        return len(self.user_id) >= MIN_UNMISTAKABLE

    @property
    def _everywhere(self) -> Q:
        """All rows, or none."""
        return Q(pk__isnull=not self._is_unmistakable)

    def _replace_in_coupons(self) -> Collection[int]:
        own = Coupon.objects.filter(user_id=self.user_id)
        found = list(own.order_by("pk").values_list("pk", flat=True))
        own.update(user_id=self.pseudonym)
        return found

    def _replace_in_events(self) -> Collection[int]:
        """Also in messages that could not be read, or not be believed: their rows name nobody."""
        events = FailEventHistory.objects.alias(quoted=_position(f'"{self.user_id}"'))
        named = Q(user_id=self.user_id) | Q(user_id="", quoted__gt=0)
        if self._is_unmistakable:
            events = events.alias(found=_position(self.user_id))
            named |= Q(found__gt=0)
            for text in EVENT_TEXTS:
                named |= Q(**{f"{text}__regex": self._word})
        chosen = list(events.filter(named).select_for_update(no_key=True).order_by("pk"))
        for event in chosen:
            # The hash stays that of the message as received: by it a message that comes again is recognised.
            FailEventHistory.objects.filter(pk=event.pk).update(
                user_id=self.pseudonym if event.user_id == self.user_id else event.user_id,
                payload=self._replaced_in(bytes(event.payload)),
                **{text: re.sub(self._word, self.pseudonym, getattr(event, text)) for text in EVENT_TEXTS},
            )
        return [event.pk for event in chosen]

    def _replaced_in(self, payload: bytes) -> bytes:
        """A short id only where it is a whole string of JSON: bare it may be a sequence, or a part of a time."""
        if self._is_unmistakable:
            return re.sub(self._word.encode(), self.pseudonym.encode(), payload)
        return payload.replace(f'"{self.user_id}"'.encode(), f'"{self.pseudonym}"'.encode())

    def _replace(self, rows: QuerySet[Any], *texts: str) -> int:
        named = Q()
        for text in texts:
            named |= Q(**{f"{text}__regex": self._word})
        values = [Value(self._word), Value(self.pseudonym), Value("g")]
        changes = {text: Func(F(text), *values, function="regexp_replace", output_field=CharField()) for text in texts}
        return rows.filter(named).update(**changes)


def _let_final_rows_change(user_id: str, pseudonym: str) -> None:
    """In this transaction alone. The triggers of migration 0016 compare each row with what it was: nothing else may
    differ."""
    with connection.cursor() as cursor:
        for name, value in (("erased_user", user_id), ("pseudonym", pseudonym)):
            cursor.execute("SELECT set_config(%s, %s, true)", [f"coupons.{name}", value])


def _position(text: str) -> Func:
    """Where the text begins in a message as received; 0 = nowhere."""
    sought = Value(text.encode())
    return Func(
        sought, F("payload"), template="position(%(expressions)s)", arg_joiner=" in ", output_field=IntegerField()
    )
