"""Redis by TLS, through django-redis as the service asks it: with the document's user and parameters, and without."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from django.conf import LazySettings
from redis.exceptions import NoPermissionError

from coupons.admission.gate import Outcome
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis, run
from coupons.checks.configuration import check_redis
from coupons.errors import GateUnavailable
from tests.support.authority import Authority
from tests.support.deploy_document import acl, with_certificate
from tests.support.gate import Gate
from tests.support.secure_servers import PASSWORD, SecureRedis
from tests.support.timeouts import LONG_MS


class Secured(NamedTuple):
    server: SecureRedis
    authority: Authority
    settings: LazySettings

    @property
    def url(self) -> str:
        address = f"127.0.0.1:{self.server.tls_port}"
        lines = with_certificate(
            self.authority.folder, {"redis.example.test:6380": address, "kafka.example.test:9094": "-"}
        )
        return lines["REDIS_URL"]

    def ask(self, url: str, *, timeout_sec: float = LONG_MS / 1000) -> None:
        """One script, as an application asks. Raises GateUnavailable."""
        caches: Any = self.settings.CACHES
        options = {
            **caches["admission"]["OPTIONS"],
            "SOCKET_TIMEOUT": timeout_sec,
            "SOCKET_CONNECT_TIMEOUT": timeout_sec,
        }
        self.settings.CACHES = {**caches, "admission": {**caches["admission"], "LOCATION": url, "OPTIONS": options}}
        run("describe", campaign_keys(uuid4()), ["0"])

    def fails(self, url: str, *, timeout_sec: float = LONG_MS / 1000) -> str:
        with pytest.raises(GateUnavailable) as caught:
            self.ask(url, timeout_sec=timeout_sec)
        assert PASSWORD not in str(caught.value)
        return str(caught.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SecureRedis, Authority]]:
    folder = tmp_path_factory.mktemp("redis")
    authority = Authority(folder)
    authority.issue("client")
    made = SecureRedis(folder, authority, acl(), client_certificates=True)
    made.start()
    yield made, authority
    made.stop()


@pytest.fixture
def secured(server: tuple[SecureRedis, Authority], settings: LazySettings) -> Secured:
    return Secured(*server, settings)


def test_the_documented_line_and_user_are_enough(secured: Secured, a_gate: Callable[..., Gate]) -> None:
    secured.ask(secured.url)

    assert a_gate().admit("42").outcome == Outcome.ADMITTED
    assert admission_redis().acl_whoami() == "coupons"
    assert check_redis(None) == []


def test_the_document_s_user_may_do_nothing_else(secured: Secured) -> None:
    secured.ask(secured.url)

    for command in (("FLUSHALL",), ("CONFIG", "SET", "appendonly", "no"), ("SET", "not-ours", "1"), ("ACL", "LIST")):
        with pytest.raises(NoPermissionError):
            admission_redis().execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.attack("a server in Redis's place", "a certificate of another authority", "no connection, 503, said why")
def test_another_authority_is_not_believed(secured: Secured, tmp_path: Path) -> None:
    other = Authority(tmp_path)

    why = secured.fails(secured.url.replace(str(secured.authority.ca), str(other.ca)))

    assert "certificate verify failed" in why


def test_the_system_s_authorities_do_not_know_ours(secured: Secured) -> None:
    assert "certificate verify failed" in secured.fails(
        secured.url.replace(f"ssl_ca_certs={secured.authority.ca}&", "")
    )


@pytest.mark.parametrize(
    ("hosts", "days", "why"),
    [
        (("redis.example.test",), 1, "IP address mismatch"),
        (("127.0.0.1",), -1, "certificate has expired"),
    ],
)
def test_a_certificate_for_another_name_or_day_is_not_believed(
    tmp_path: Path, settings: LazySettings, hosts: tuple[str, ...], days: int, why: str
) -> None:
    authority = Authority(tmp_path)
    authority.issue("client")
    server = SecureRedis(tmp_path, authority, acl(), hosts=hosts, days=days)
    server.start()
    try:
        secured = Secured(server, authority, settings)
        assert why in secured.fails(secured.url)
        secured.ask(f"{secured.url}&ssl_cert_reqs=none")  # or the certificate was not what it failed of
    finally:
        server.stop()


def test_without_a_client_certificate_where_one_is_asked_for(secured: Secured) -> None:
    without = secured.url.split("&ssl_certfile")[0]

    assert "Redis, script" in secured.fails(without)  # by an alert or an end of file, whichever the client sees first


def test_a_wrong_password(secured: Secured) -> None:
    wrong = secured.url.replace(PASSWORD, "not-the-password")

    assert "invalid username-password pair" in secured.fails(wrong)


@pytest.mark.attack("plain text to a TLS port", "redis:// to Redis's tls-port", "no connection, 503")
def test_plain_text_to_the_tls_port(secured: Secured) -> None:
    plain = secured.url.replace("rediss", "redis").split("?")[0]

    assert "Connection" in secured.fails(plain)


def test_tls_to_the_plain_port(secured: Secured) -> None:
    plain_port = secured.url.replace(str(secured.server.tls_port), str(secured.server.port()))

    assert "Timeout connecting to server" in secured.fails(plain_port, timeout_sec=0.5)
