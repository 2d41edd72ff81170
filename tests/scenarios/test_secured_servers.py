"""The service with TLS and passwords to all three servers, by the lines of docs/deploy/security.md, and by wrong ones.

Kafka and Redis are the test's own; PostgreSQL is the stack's, with TLS for as long as this lasts.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3
from django.db import connection

from coupons.models import Campaign, Coupon
from harness import free_port
from tests.support.authority import Authority
from tests.support.deploy_document import acl, with_certificate, with_password
from tests.support.process import ROOT, Process
from tests.support.secure_servers import PASSWORD, SecureKafka, SecureRedis, postgresql_with_tls
from tests.support.service import Service
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
WRONG = "not-the-password"


@dataclass
class Servers:
    authority: Authority
    other: Authority
    redis: SecureRedis
    kafka: SecureKafka


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    authority.issue("client")
    servers = Servers(
        authority, Authority(folder, "other"), SecureRedis(folder, authority, acl()), SecureKafka(folder, authority)
    )
    started = []
    try:
        for server in (servers.redis, servers.kafka):
            server.start()
            started.append(server)
        yield servers
    finally:
        for server in started:
            server.stop()


class Secured:
    """The service by the document's lines; each process may have some of them changed."""

    def __init__(self, service: Service, servers: Servers) -> None:
        self.service = service
        self.servers = servers
        self._plain = service.environment
        stack = urlsplit(self._plain["DATABASE_URL"])
        addresses = {
            "db.example.test:5432": f"{stack.hostname}:{stack.port}",
            "redis.example.test:6380": f"127.0.0.1:{servers.redis.tls_port}",
        }
        self.lines = with_password(
            servers.authority.folder, {**addresses, "kafka.example.test:9093": servers.kafka.sasl}
        )
        # the stack's server has a password of its own, and this test's database
        self.lines["DATABASE_URL"] = (
            self.lines["DATABASE_URL"]
            .replace(f":{PASSWORD}@", f":{stack.password}@")
            .replace("/coupons?", f"{stack.path}?")
        )
        self.of_certificate = with_certificate(
            servers.authority.folder,
            {
                "redis.example.test:6380": addresses["redis.example.test:6380"],
                "kafka.example.test:9094": servers.kafka.certificates,
            },
        )
        self.secrets = (PASSWORD, str(stack.password), WRONG)
        self.processes: list[Process] = []

    def start(self, *arguments: str, **changed: str) -> Process:
        return self._noted(self.service.manage(*arguments, **self.lines | changed))

    def run(self, *arguments: str, **changed: str) -> Process:
        return self._noted(self.service.run(*arguments, **self.lines | changed))

    def web(self, **changed: str) -> tuple[str, Process]:
        """Its address; it may be one that admits nobody."""
        port = free_port()
        more = {"WEB_PORT": str(port), "COUPON_WEB_WORKERS": "1"}
        process = self.service.start("web", [str(ROOT / "bin" / "web")], **self.lines | more | changed)
        return f"http://127.0.0.1:{port}", self._noted(process)

    def campaign(self) -> str:
        assert self.run("create_topic").exit_code == 0
        process = self.run("create_campaign", "--name", "secured", "--quantity", "100", "--open")
        assert process.exit_code == 0, process.output
        return str(Campaign.objects.get().pk)

    def closes(self, campaign: str, coupons: int) -> None:
        """So many coupons are issued in the end, and the ledger, which reads the topic by these lines too, closes."""
        wait_until(lambda: Coupon.objects.count() == coupons, within_sec=60, what=lambda: str(Coupon.objects.count()))

        def closes() -> bool:
            process = self.run("reconcile_campaigns", campaign)
            return process.exit_code == 0

        wait_until(closes, what=lambda: self.processes[-1].output)

    def assert_no_secret_was_shown(self) -> None:
        for process in self.processes:
            shown = [secret for secret in self.secrets if secret in process.output]
            assert not shown, process.output

    def _noted(self, process: Process) -> Process:
        self.processes.append(process)
        return process


@pytest.fixture
def secured(service: Service, servers: Servers) -> Iterator[Secured]:
    with postgresql_with_tls(servers.authority):
        yield Secured(service, servers)


def answers(url: str) -> bool:
    try:
        return urllib3.request("GET", f"{url}/healthz", retries=False, timeout=10).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def apply(url: str, campaign: str, user: str) -> tuple[int, str]:
    """The status, and a problem's code."""
    headers = {"Authorization": "Bearer test-key"}
    answer = urllib3.request(
        "POST",
        f"{url}/api/v1/campaigns/{campaign}/apply",
        json={"user_id": user},
        headers=headers,
        retries=False,
        timeout=20,
    )
    return answer.status, json.loads(answer.data).get("code", "")


def test_an_application_becomes_a_coupon_with_tls_to_all_three(secured: Secured) -> None:
    campaign = secured.campaign()
    consumer = secured.start("run_coupon_consumer")
    keeper = secured.start("run_keeper", "--interval-ms", "300")
    url, web = secured.web()
    wait_until(lambda: answers(url), within_sec=60, what=lambda: web.output)
    consumer.says("consumer.assigned")
    keeper.says("keeper: one round")

    def apply_until_promised(user: str) -> None:
        wait_until(lambda: apply(url, campaign, user)[0] in (200, 202), what=lambda: web.output)

    for user in range(10):
        apply_until_promised(str(user))
    assert apply(url, campaign, "0") == (200, "")
    secured.closes(campaign, 10)
    assert ssl_of_the_sessions() == {True}, "web, consumer and keeper"
    assert secured.run("rebuild_admission", campaign).exit_code == 0
    deploy = secured.run("check", "--deploy")
    assert not re.findall(r"coupons\.[WE]\d+", deploy.output), deploy.output
    secured.assert_no_secret_was_shown()


def ssl_of_the_sessions() -> set[bool]:
    """Of the test's database, but for this process's own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) "
            "WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend' "
            "AND a.application_name = ''"
        )
        return {bool(row[0]) for row in cursor.fetchall()}


def test_client_certificates_are_all_that_kafka_asks_for(secured: Secured) -> None:
    kafka = {name: value for name, value in secured.of_certificate.items() if "KAFKA" in name}
    assert secured.run("create_topic", **kafka).exit_code == 0

    without = re.sub(r";ssl\.(certificate|key)\.location=[^;]*", "", kafka["COUPON_KAFKA_CLIENT_CONFIG"])
    refused = secured.run("create_topic", **kafka | {"COUPON_KAFKA_CLIENT_CONFIG": without})

    assert refused.exit_code == 2
    assert re.search("alert (bad certificate|certificate required)", refused.output), refused.output


@pytest.mark.attack(
    "wrong authority, wrong password, plain text",
    "8 ways to Redis and Kafka, with applications",
    "503; no place is lost",
)
def test_whoever_cannot_connect_promises_nothing_and_loses_nothing(secured: Secured) -> None:
    campaign = secured.campaign()
    webs = [(case, *secured.web(**case.changed)) for case in cases(secured)]
    for case, url, web in webs:
        wait_until(lambda url=url: answers(url), within_sec=90, what=lambda web=web: web.output)  # type: ignore[misc]
        wait_until(
            lambda case=case, url=url: apply(url, campaign, case.user)[1] == case.code,  # type: ignore[misc]
            what=lambda web=web: web.output,  # type: ignore[misc]
        )
        wait_until(lambda case=case, web=web: re.search(case.says, web.output), what=lambda web=web: web.output)  # type: ignore[misc]
    assert Coupon.objects.count() == 0
    good, web = secured.web()
    wait_until(lambda: answers(good), within_sec=60, what=lambda: web.output)
    secured.start("run_coupon_consumer")

    for case, _, _ in webs:
        wait_until(lambda case=case: apply(good, campaign, case.user)[0] in (200, 202), what=lambda: web.output)  # type: ignore[misc]

    secured.closes(campaign, len(webs))
    secured.assert_no_secret_was_shown()


@dataclass(frozen=True)
class Case:
    user: str
    changed: dict[str, str]
    code: str
    says: str


def cases(secured: Secured) -> list[Case]:
    """What is wrong, what an application is told, what the log says."""
    redis, config = secured.lines["REDIS_URL"], secured.lines["COUPON_KAFKA_CLIENT_CONFIG"]
    ca, other = str(secured.servers.authority.ca), str(secured.servers.other.ca)
    tls, plain = str(secured.servers.redis.tls_port), str(secured.servers.redis.port())

    def of_redis(user: str, url: str, says: str) -> Case:
        return Case(user, {"REDIS_URL": url}, "unavailable", says)

    def of_kafka(user: str, config: str, says: str, server: str = secured.servers.kafka.sasl) -> Case:
        changed = {"COUPON_KAFKA_CLIENT_CONFIG": config, "KAFKA_BOOTSTRAP_SERVERS": server}
        return Case(user, {**changed, "COUPON_DELIVERY_TIMEOUT_MS": "1500"}, "unconfirmed", says)

    return [
        of_redis("redis-authority", redis.replace(ca, other), "certificate verify failed"),
        of_redis("redis-password", redis.replace(PASSWORD, WRONG), "invalid username-password pair"),
        of_redis("redis-plain-text", redis.replace("rediss", "redis").split("?")[0], "Connection (reset|closed)"),
        of_redis("redis-plain-port", redis.replace(tls, plain), "Timeout connecting to server"),
        of_kafka("kafka-authority", config.replace(ca, other), "certificate verify failed"),
        of_kafka("kafka-password", config.replace(PASSWORD, WRONG), "Authentication failed"),
        of_kafka("kafka-plain-text", "", "Disconnected: .* in state APIVERSION_QUERY"),
        of_kafka(
            "kafka-plain-port", config, r"connecting to a PLAINTEXT broker listener\?", secured.servers.kafka.plain
        ),
    ]


def test_a_consumer_and_a_command_name_the_fault_and_retry(secured: Secured) -> None:
    campaign = secured.campaign()
    ca, other = str(secured.servers.authority.ca), str(secured.servers.other.ca)
    config = secured.lines["COUPON_KAFKA_CLIENT_CONFIG"]
    wrong_kafka = {"COUPON_KAFKA_CLIENT_CONFIG": config.replace(ca, other), "COUPON_DELIVERY_TIMEOUT_MS": "1500"}
    wrong_database = {"DATABASE_URL": secured.lines["DATABASE_URL"].replace(ca, other)}
    consumers = [secured.start("run_coupon_consumer", **wrong) for wrong in (wrong_kafka, wrong_database)]
    url, web = secured.web()
    wait_until(lambda: answers(url), within_sec=60, what=lambda: web.output)
    wait_until(lambda: apply(url, campaign, "1")[0] == 202, what=lambda: web.output)

    command = secured.run("create_topic", **wrong_kafka)

    assert command.exit_code == 2
    assert "certificate verify failed" in command.output
    for consumer in consumers:
        consumer.says("certificate verify failed")
        assert consumer.exit_code is None, "it goes on trying"
        assert consumer.stop() == 0
    assert Coupon.objects.count() == 0
    secured.start("run_coupon_consumer")
    secured.closes(campaign, 1)
    secured.assert_no_secret_was_shown()


def test_a_postgresql_without_tls_is_not_spoken_to(service: Service, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    url = f"{service.environment['DATABASE_URL']}?sslmode=verify-full&sslrootcert={authority.ca}"

    command = service.run("create_campaign", "--name", "x", "--quantity", "1", DATABASE_URL=url)

    assert command.exit_code == 2
    assert "server does not support SSL, but SSL was required" in command.output
    assert not Campaign.objects.exists()
