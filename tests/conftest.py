"""Fixtures on the three real servers of `.stack/test`, which `make test` starts. A missing server fails the run.

A test that touches Redis, Kafka or other processes takes `service`: an empty Redis, a topic and a group of its own, and
the database of pytest-django (committed for real, emptied afterwards).
"""

import gc
import json
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from coupons.admission.campaign_cache import campaign_cache
from coupons.admission.scripts import admission_redis
from coupons.api import throttling
from coupons.api.circuit_breakers import kafka_breaker, postgresql_breaker, redis_breaker
from coupons.auth.api_key_cache import api_key_cache
from coupons.messaging import topics
from coupons.messaging.producer import publisher, publishers
from tests.support.database import delete_all_rows, forget_session
from tests.support.own_topic import delete_kept_topic, take_topic
from tests.support.service import Service
from tests.support.timeouts import LONG_MS, wait_for_redis

HERE = Path(__file__).parent
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    home = Path(os.environ.get("STACK_HOME", ""))
    if not home.name.startswith("test") or os.environ.get("COUPON_ENV_FILE") != str(home / "env"):
        raise pytest.UsageError(
            'Tests empty Redis and stop servers, so they run on a stack of their own: `make test ARGS="-k word"`, or '
            "`STACK_HOME=.stack/test bin/stack up` and then "
            "`STACK_HOME=.stack/test COUPON_ENV_FILE=.stack/test/env .venv/bin/python -m pytest`."
        )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Garbage is not collected meanwhile, and what stays for the whole run is never walked through again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that at the end no worker waits for another one's scenario."""
    folders = ["containers", "scenarios", "browser", "concurrency", "api", "integration", "unit"]
    items.sort(key=lambda item: folders.index(item.path.relative_to(HERE).parts[0]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test without the database meets no open connection. The others share one: to connect costs 15 ms of CPU."""
    if not {"db", "transactional_db"} & set(getattr(item, "fixturenames", ())):
        connection.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that passed with the mark `attack` leaves a record for `python -m faults.attacks`.

    What it has counted with `record_property` stands in the record, and in `tried` where that names it in braces.
    """
    report = yield
    if report.when == "call" and report.passed and (mark := item.get_closest_marker("attack")) is not None:
        attack, tried, answer = mark.args
        folder = Path(os.environ["STACK_HOME"]) / os.environ.get("ATTACKS_FOLDER", "attacks")
        folder.mkdir(parents=True, exist_ok=True)
        test = item.nodeid.partition("[")[0]
        record: dict[str, object] = {"attack": attack, "tried": tried, "answer": answer, "test": test}
        if counted := dict(item.user_properties):
            tried = tried.format(**{name: f"{number:,}" for name, number in counted.items()})
            record |= {"tried": tried, "counted": counted}
        (folder / f"{re.sub(r'[^a-z0-9]+', '-', attack.lower())}.json").write_text(json.dumps(record) + "\n")
    return report


@pytest.fixture
def transactional_db(
    request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """The database as processes share it: what a test writes is committed, and deleted when the test ends.

    In place of pytest-django's, which takes a fifth of a second to truncate all tables and make all permissions anew.
    """
    assert "db" not in request.fixturenames, "nobody else would see what is written in the transaction of `db`"
    with django_db_blocker.unblock():
        yield
        connection.close_if_unusable_or_obsolete()
        delete_all_rows()
        forget_session()


@pytest.fixture(scope="session")
def _clients(django_db_setup: None) -> Iterator[None]:
    """The process's own clients, closed before the database is dropped: the campaign cache holds a connection to it."""
    yield
    delete_kept_topic()
    publishers.reset()
    for client in (campaign_cache, api_key_cache, topics.administrator):
        client.reset()


@pytest.fixture(scope="session", autouse=True)
def _long_redis_timeout() -> None:
    wait_for_redis(LONG_MS)


@pytest.fixture(scope="session", autouse=True)
def _static_files_are_looked_for_when_asked_for() -> Iterator[None]:
    """Each of Django's test clients makes WhiteNoise anew, which would read the properties of all files each time."""
    with override_settings(WHITENOISE_AUTOREFRESH=True):
        yield


@pytest.fixture
def long_timeouts(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API in this process waits long for its servers; for tests that call it, and are not about that."""
    monkeypatch.setattr("coupons.auth.api_key_cache.FIRST_READ_SEC", LONG_MS / 1000)
    service.timeouts.requests = True
    service.timeouts.lengthen()


@pytest.fixture
def service(transactional_db: None, settings: LazySettings, _clients: None) -> Iterator[Service]:
    """The parts of the service around one test, and its processes; whatever a test stopped is started again."""
    settings.API_KEYS = ["test-key"]
    admission_redis().flushall()
    take_topic(settings)
    assert publisher().wait_until_ready(20), "Kafka of .stack/test gives the producer no id"
    for breaker in (kafka_breaker, redis_breaker, postgresql_breaker):
        breaker.succeeded()
    throttling.buckets = throttling.Buckets(capacity=settings.LIMIT_MEMORY)
    made = Service(settings)
    made.timeouts.lengthen()
    yield made
    made.close()
    for client in (campaign_cache, api_key_cache):
        client.reset()
