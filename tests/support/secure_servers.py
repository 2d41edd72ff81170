"""Redis and Kafka with TLS and users of their own, and the stack's PostgreSQL with TLS for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from django.db import connection
from redis import Redis as Client
from redis.exceptions import RedisError
from stack_parts.home import Home
from stack_parts.kafka import Kafka
from stack_parts.ports import LOOPBACK
from stack_parts.redis import Redis

from harness import free_port
from tests.support.authority import HOSTS, Authority
from tests.support.waiting import wait_until

USER = "coupons"
PASSWORD = "a-secret-of-the-servers"


class SecureRedis(Redis):
    """`tls_port` takes the user of the document; the plain port is there to be tried in vain."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        acl: str,
        *,
        client_certificates: bool = False,
        hosts: tuple[str, ...] = HOSTS,
        days: int = 1,
    ) -> None:
        super().__init__(Home(folder / "redis-stack"))
        self._acl = acl
        self._client_certificates = client_certificates
        self.tls_port = free_port()
        self._ca = authority.ca
        self._certificate, self._key = authority.issue("redis", hosts=hosts, days=days)

    def prepare(self) -> None:
        super().prepare()
        more = {
            "tls-port": self.tls_port,
            "tls-cert-file": self._certificate,
            "tls-key-file": self._key,
            "tls-ca-cert-file": self._ca,
            "tls-auth-clients": "yes" if self._client_certificates else "no",
        }
        with (self.home.data(self.name) / "redis.conf").open("a") as conf:
            conf.writelines(f'{name} "{value}"\n' for name, value in more.items())
            conf.write(f"{self._acl}\n")

    def answers(self) -> bool:
        try:
            with Client(host=LOOPBACK, port=self.port(), username=USER, password=PASSWORD, socket_timeout=2) as client:
                return bool(client.ping())
        except RedisError:
            return False


class SecureKafka(Kafka):
    """Beside the plain listener of its own one for users with a password and one for client certificates."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(Home(folder / "kafka-stack"))
        self._authority = authority
        self.sasl_port, self.certificates_port = free_port(), free_port()

    @property
    def plain(self) -> str:
        return f"{LOOPBACK}:{self.port()}"

    @property
    def sasl(self) -> str:
        return f"{LOOPBACK}:{self.sasl_port}"

    @property
    def certificates(self) -> str:
        return f"{LOOPBACK}:{self.certificates_port}"

    def prepare(self) -> None:
        super().prepare()
        certificate, key = self._authority.issue("kafka")
        store = self._authority.folder / "kafka.keystore.pem"
        store.write_bytes(key.read_bytes() + certificate.read_bytes())
        properties = self.home.data(self.name) / "server.properties"
        listeners = {"SASL": self.sasl, "CERTIFICATES": self.certificates}
        named = ",".join(f"{name}://{address}" for name, address in listeners.items())
        lines = []
        for line in properties.read_text().splitlines():
            if line.startswith(("listeners=", "advertised.listeners=")):
                lines.append(f"{line},{named}")
            elif line.startswith("listener.security.protocol.map="):
                lines.append(f"{line},SASL:SASL_SSL,CERTIFICATES:SSL")
            else:
                lines.append(line)
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        lines += [
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={store}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self._authority.ca}",
            "listener.name.certificates.ssl.client.auth=required",
            "listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-512",
            f"listener.name.sasl.scram-sha-512.sasl.jaas.config={login}",
        ]
        properties.write_text("\n".join(lines) + "\n")

    def finish_start(self) -> None:
        """The user exists."""
        user = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        client = AdminClient({"bootstrap.servers": self.plain})
        client.alter_user_scram_credentials([user])[USER].result(20)


@contextmanager
def postgresql_with_tls(authority: Authority) -> Iterator[None]:
    """The stack's own server takes TLS as well, from its next connection on; plain text goes on being taken."""
    certificate, key = authority.issue("postgres")
    settings = {"ssl_cert_file": f"'{certificate}'", "ssl_key_file": f"'{key}'", "ssl": "on"}
    try:
        _alter_system(*(f"SET {name} = {value}" for name, value in settings.items()))
        wait_until(lambda: _setting("ssl") == "on", what="PostgreSQL has read its settings")
        yield
    finally:
        _alter_system(*(f"RESET {name}" for name in settings))
        wait_until(lambda: _setting("ssl") == "off", what="PostgreSQL has read its settings")


def _alter_system(*changes: str) -> None:
    with connection.cursor() as cursor:
        for change in changes:
            cursor.execute(f"ALTER SYSTEM {change}")
        cursor.execute("SELECT pg_reload_conf()")


def _setting(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])
