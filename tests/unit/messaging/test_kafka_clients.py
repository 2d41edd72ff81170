"""Every Kafka client of the program has the settings of `client_config`, and so its TLS and its user."""

import ast
from collections.abc import Iterator

import pytest
from django.conf import LazySettings

from consumers.config import consumer_config
from coupons.messaging.kafka import ClientStatistics, client_config
from tests.support.process import ROOT

CLIENTS = {"Producer", "Consumer", "AdminClient"}
CONFIGURED_BY = {"client_config", "consumer_config"}
TLS = {"security.protocol": "SASL_SSL", "ssl.ca.location": "/etc/coupons/ca.pem", "sasl.password": "p"}


def clients(source: str) -> Iterator[tuple[int, bool]]:
    """Where the module makes a client, and whether from one of the two configurations."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLIENTS:
            given = node.args[0] if len(node.args) == 1 else None
            made_by = given.func if isinstance(given, ast.Call) else None
            yield node.lineno, isinstance(made_by, ast.Name) and made_by.id in CONFIGURED_BY


def test_each_client_is_made_from_the_common_settings() -> None:
    files = [file for part in ("coupons", "consumers", "couponsite") for file in (ROOT / part).rglob("*.py")]
    made = {f"{file.name}:{line}": good for file in files for line, good in clients(file.read_text())}

    assert len(made) >= 5, "producer, two administrators, reader of the log, consumer"
    assert all(made.values()), made


@pytest.mark.parametrize("source", ['Consumer({"bootstrap.servers": "x"})', "Producer(own)", "AdminClient(own())"])
def test_one_with_settings_of_its_own_is_noticed(source: str) -> None:
    assert [good for _, good in clients(source)] == [False]


def test_both_configurations_have_what_the_operator_set(settings: LazySettings) -> None:
    settings.KAFKA_CLIENT_CONFIG = TLS

    assert TLS.items() <= client_config(**{"group.id": "g"}).items()
    assert TLS.items() <= consumer_config("g", ClientStatistics().read).items()
    settings.CONSUMER_GROUP_PROTOCOL = "classic"
    assert TLS.items() <= consumer_config("g", ClientStatistics().read).items()
