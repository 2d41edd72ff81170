"""DATABASE_URL with several hosts: one that hangs or is down keeps nobody from the next."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from coupons.runtime.db_timeouts import answers_within
from couponsite.servers import database_config
from faults.proxy import LOOPBACK
from harness import free_port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The kernel takes its connections, and nobody answers."""
    with closing(socket.create_server((LOOPBACK, 0))) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def several_hosts(
    transactional_db: None, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BaseDatabaseWrapper]:
    """A connection that is not made yet: the test sets the ports, `first` and `second` among them."""
    settings.DB_CONNECT_TIMEOUT_SEC = 1
    database = connection.settings_dict
    user = f"{quote(database['USER'])}:{quote(database['PASSWORD'])}"
    url = f"postgres://{user}@{LOOPBACK}:1,{LOOPBACK}:2/{database['NAME']}?target_session_attrs=read-write"
    monkeypatch.setenv("SOME_URL", url)
    monkeypatch.setitem(connections.settings, "several", {**database, **database_config("SOME_URL", time_outs_ms={})})
    monkeypatch.setattr("coupons.runtime.several_hosts.base.DatabaseWrapper.begin_with", 0, raising=False)
    made = connections.create_connection("several")
    yield made
    made.close()


def connects(wrapper: BaseDatabaseWrapper, *ports: int | str) -> bool:
    wrapper.settings_dict["PORT"] = ",".join(map(str, ports))
    wrapper.close()
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
    except OperationalError:
        return False
    return True


def own_port() -> str:
    return str(connection.settings_dict["PORT"])


def test_a_host_that_hangs_leaves_time_for_the_next(several_hosts: BaseDatabaseWrapper, silent_port: int) -> None:
    assert connects(several_hosts, silent_port, own_port())


def test_a_host_that_is_down_is_passed_by(several_hosts: BaseDatabaseWrapper) -> None:
    assert connects(several_hosts, free_port(), own_port())


def test_a_short_deadline_begins_with_the_next_host_afterwards(
    several_hosts: BaseDatabaseWrapper, silent_port: int
) -> None:
    with answers_within(0.3):
        assert not connects(several_hosts, silent_port, own_port())
    with answers_within(5):
        assert connects(several_hosts, silent_port, own_port())
        began = time.monotonic()
        assert connects(several_hosts, silent_port, own_port())
    assert time.monotonic() - began < 1, "it begins with the host that has answered"


def test_the_error_of_the_last_host_is_raised(several_hosts: BaseDatabaseWrapper) -> None:
    assert not connects(several_hosts, free_port(), free_port())
