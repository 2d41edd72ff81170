"""Every wait for PostgreSQL ends on our side too: statement_timeout is kept by a server that may hang."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import LazySettings
from django.db import OperationalError, close_old_connections, connection, transaction

from coupons.models import Campaign
from coupons.runtime.db_timeouts import NoAnswer, answers_may_take, answers_within
from harness import unlimited_waits
from tests.support.service import Service

LIMIT_MS = 300
SOON_SEC = 5.0  # far below statement_timeout (10 s), far above what a busy machine needs


@contextmanager
def no_answer() -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        yield
    assert isinstance(caught.value.__cause__, NoAnswer)
    assert time.monotonic() - began < SOON_SEC
    close_old_connections()  # as every request and every batch does


def sleep_in_the_server(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def test_a_hanging_server_ends_the_wait_and_recovers(service: Service, settings: LazySettings) -> None:
    campaign = service.campaign()
    settings.DB_ANSWER_TIMEOUT_MS = LIMIT_MS
    service.stack("pause", "postgres")
    with no_answer():
        Campaign.objects.get(pk=campaign.pk)

    service.stack("resume", "postgres")
    settings.DB_ANSWER_TIMEOUT_MS = 12_000
    assert Campaign.objects.get(pk=campaign.pk) == campaign


def test_a_silent_server_ends_the_wait_for_a_connection(service: Service, settings: LazySettings) -> None:
    settings.DB_CONNECT_TIMEOUT_SEC = 1
    connection.close()
    service.stack("pause", "postgres")  # the kernel goes on to take connections for it
    with no_answer():
        connection.ensure_connection()


def test_a_transaction_without_its_connection_leaves_nothing(service: Service) -> None:
    campaign = service.campaign()
    with no_answer(), transaction.atomic():
        Campaign.objects.filter(pk=campaign.pk).update(name="changed")
        with answers_within(LIMIT_MS / 1000):
            sleep_in_the_server(8)

    with transaction.atomic():
        assert Campaign.objects.select_for_update().get(pk=campaign.pk).name == "test"


def test_the_shorter_of_two_limits_holds_within_its_block(transactional_db: None) -> None:
    with answers_within(LIMIT_MS / 1000), no_answer(), answers_within(60):
        sleep_in_the_server(8)
    sleep_in_the_server(LIMIT_MS / 1000 * 2)


def test_a_long_statement_may_take_longer_inside_its_block(transactional_db: None, settings: LazySettings) -> None:
    settings.DB_ANSWER_TIMEOUT_MS = LIMIT_MS
    with answers_may_take(60):
        sleep_in_the_server(LIMIT_MS / 1000 * 2)
    with no_answer():
        sleep_in_the_server(8)


def test_a_statement_ends_with_the_limit_of_its_block(transactional_db: None) -> None:
    with answers_within(LIMIT_MS / 1000), no_answer(), answers_may_take(60):
        sleep_in_the_server(8)


def test_a_statement_that_the_server_ends_keeps_its_reason(transactional_db: None) -> None:
    with connection.cursor() as cursor, pytest.raises(OperationalError, match="statement timeout"):
        cursor.execute("SET statement_timeout = 100; SELECT pg_sleep(8)")
    connection.close()


def test_copy_works_without_the_limit(transactional_db: None) -> None:
    with unlimited_waits(), connection.cursor() as cursor:
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT 1) TO STDOUT", out)
        assert out.getvalue() == "1\n"
    with no_answer(), answers_within(LIMIT_MS / 1000):
        sleep_in_the_server(8)
