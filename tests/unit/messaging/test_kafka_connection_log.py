"""What librdkafka logs of connections: the last failure is told with an error, and the same line is not told twice."""

import logging

import pytest
from confluent_kafka import KafkaError

from coupons.messaging import kafka
from coupons.messaging.kafka import ConnectionLog, describe_error

HANDSHAKE = "sasl_ssl://[::1]:9093/bootstrap: SSL handshake failed: certificate verify failed (after {}ms in state SSL)"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> ConnectionLog:
    made = ConnectionLog()
    monkeypatch.setattr(kafka, "connection_log", made)
    return made


def logged(log: ConnectionLog, text: str, *, kind: str = "FAIL") -> bool:
    """As confluent-kafka hands it over; whether it passes."""
    arguments = (kind, "coupons#producer-1", f"[thrd:sasl_ssl://[::1]:9093/bootstrap]: {text}")
    return log.filter(logging.LogRecord("", logging.ERROR, "", 0, "%s [%s] %s", arguments, None))


def test_an_empty_error_names_the_last_connection_failure(log: ConnectionLog) -> None:
    logged(log, HANDSHAKE.format(1))

    assert HANDSHAKE.format(1) in describe_error(KafkaError(KafkaError._TRANSPORT))
    assert HANDSHAKE.format(1) in describe_error(KafkaError(KafkaError._TIMED_OUT))


def test_an_answer_of_the_broker_stands_for_itself(log: ConnectionLog) -> None:
    logged(log, HANDSHAKE.format(1))

    assert "handshake" not in describe_error(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS))


def test_old_failures_and_other_lines_are_not_named(log: ConnectionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    logged(log, "retrying", kind="GETPID")
    assert "retrying" not in describe_error(KafkaError(KafkaError._TRANSPORT))

    logged(log, HANDSHAKE.format(1))
    monkeypatch.setattr(kafka, "FAILURE_VALID_SEC", 0)
    assert "handshake" not in describe_error(KafkaError(KafkaError._TRANSPORT))


def test_lines_differing_only_in_numbers_are_throttled(log: ConnectionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [logged(log, HANDSHAKE.format(number)) for number in range(3)] == [True, False, False]
    assert logged(log, "Connection refused")

    monkeypatch.setattr(kafka, "REPEAT_INTERVAL_SEC", 0)
    assert logged(log, HANDSHAKE.format(4))


def test_it_remembers_a_bounded_number_of_lines(log: ConnectionLog) -> None:
    for number in range(3 * kafka.MAX_LINES):
        assert logged(log, "x" * number)

    assert not logged(log, "x" * number), "the last one is remembered"
    assert logged(log, ""), "the first one is forgotten"
