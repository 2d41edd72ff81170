"""The addresses of the servers and of their proxies, and the product's settings that name them."""

from urllib.parse import urlsplit, urlunsplit

from stack_parts.home import Home

VARIABLES = {"redis": "REDIS_URL", "kafka": "KAFKA_BOOTSTRAP_SERVERS", "postgres": "DATABASE_URL"}


def brokers() -> list[str]:
    """The stack's brokers: one, or three."""
    return [part for part in Home.current().parts if part.startswith("kafka")]


def server_ports(part: str) -> tuple[int, int]:
    """The server's port, and the port where its proxy must listen; 0 = any port.

    Kafka advertises its address to clients, so Kafka in a native stack has a listener that advertises the proxy's
    address.
    """
    ports = Home.current().state().ports
    return (ports["kafka_proxied"], ports["kafka_proxy"]) if part == "kafka" else (ports[part], 0)


def with_address(value: str, address: str) -> str:
    """The URL, or the plain host:port, with another host and port."""
    if "://" not in value:
        return address
    parts = urlsplit(value)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{address}"))
