"""Makes the database refuse a ticket's two messages for a while, then retries both failed events at once."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from django.conf import settings
from django.db import connection
from psycopg2 import sql

from coupons.issuing.retry import retry_events_now
from coupons.messaging.kafka import client_config
from coupons.messaging.log import LoggedMessage, read_log
from coupons.messaging.positions import Position
from coupons.messaging.topics import partition_lags
from coupons.models import EventStatus, FailEventHistory
from faults.history import NO_ANSWER, HistoryWriter, Request
from faults.soak.retrying import retry_until_true

CONSTRAINT = "soak_refuses_a_user"
REPEAT_SEC, GIVE_UP_AFTER_SEC = 1.0, 60.0
RunSql = Callable[[sql.Composable], None]


class RefusedTicket:
    """`run_sql` runs in the soak's database, past every proxy."""

    def __init__(self, *, user_id: str, campaign_id: UUID, run_sql: RunSql) -> None:
        self._user_id = user_id
        self._campaign_id = campaign_id
        self._run_sql = run_sql

    def refuse(self) -> None:
        """Makes PostgreSQL refuse new coupons of this user until `allow`. Existing rows are not checked."""
        add = (
            "ALTER TABLE coupons_coupon DROP CONSTRAINT IF EXISTS {}, ADD CONSTRAINT {} CHECK (user_id <> {}) NOT VALID"
        )
        name = sql.Identifier(CONSTRAINT)
        self._alter(sql.SQL(add).format(name, name, sql.Literal(self._user_id)))

    def allow(self) -> None:
        self._alter(
            sql.SQL("ALTER TABLE coupons_coupon DROP CONSTRAINT IF EXISTS {}").format(sql.Identifier(CONSTRAINT))
        )

    def apply(self, address: str, api_key: str, history: HistoryWriter) -> bool:
        """Repeats the application, as a user would, until the answer is final. Returns whether it was a promise."""
        deadline = time.monotonic() + GIVE_UP_AFTER_SEC
        while True:
            request = self._ask(address, api_key)
            history.request(request)
            if request.status not in (NO_ANSWER, 429, 503) or time.monotonic() > deadline:
                return request.promises
            time.sleep(REPEAT_SEC)

    def send_again(self) -> None:
        """Sends the ticket's first message again, byte for byte. Returns when the group has read it."""
        retry_until_true(self._events)
        stretches = {number: (lag.start, lag.end) for number, lag in partition_lags().items()}
        first = next(each for each in read_log(stretches) if self._is_ours(each))
        again = publish(first, key=self._user_id)
        retry_until_true(lambda: partition_lags()[again.partition].next_offset > again.offset)

    def retry(self) -> None:
        """Retries all open events at once, as an operator would."""
        connection.close()
        retry_until_true(lambda: [retry_events_now(event_ids=self._events(), actor="soak", reason="allowed again")])

    def _is_ours(self, message: LoggedMessage) -> bool:
        with suppress(ValueError):
            ticket = json.loads(message.payload)
            return (ticket["user_id"], ticket["campaign_id"]) == (self._user_id, str(self._campaign_id))
        return False

    def _events(self) -> list[int]:
        events = FailEventHistory.objects.filter(user_id=self._user_id, campaign_id=self._campaign_id)
        return list(events.exclude(event_status=EventStatus.SUCCESS).values_list("pk", flat=True))

    def _ask(self, address: str, api_key: str) -> Request:
        start, status = time.monotonic(), NO_ANSWER
        document: dict[str, Any] = {"code": "broken"}
        asked = urllib.request.Request(  # noqa: S310  the soak's own web server
            f"{address}/api/v1/campaigns/{self._campaign_id}/apply",
            data=json.dumps({"user_id": self._user_id}).encode(),
            headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310
                status, document = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            status, document = error.code, json.load(error)
        except OSError:
            pass  # the request may have taken effect
        return Request(
            campaign_id=str(self._campaign_id),
            user_id=self._user_id,
            start=start,
            end=time.monotonic(),
            status=status,
            code=document.get("code", ""),
            sequence=document.get("sequence"),
            state=str(document.get("status", "")) if 0 < status < 400 else "",
            address=address,
        )

    def _alter(self, statement: sql.Composable) -> None:
        """Repeats the statement until it gets the table's lock."""

        def done() -> bool:
            self._run_sql(sql.SQL("SET lock_timeout = '3s'; {}").format(statement))
            return True

        retry_until_true(done)


def publish(message: LoggedMessage, *, key: str) -> Position:
    """Sends the same bytes and headers to the same partition. Returns their position."""
    told: list[Position] = []

    def delivered(error: KafkaError | None, copy: Message) -> None:
        if error is None:
            told.append(Position(copy.partition() or 0, copy.offset() or 0))

    producer = Producer(client_config())
    producer.produce(
        settings.TOPIC, message.payload, key=key, partition=message.position.partition,
        headers=list(message.headers), on_delivery=delivered,
    )  # fmt: skip
    producer.flush(20)
    if not told:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return told[0]
