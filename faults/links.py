"""Which address each server has, which one its proxy gets, and which setting of the product names it."""

from urllib.parse import urlsplit, urlunsplit

from stack_parts.home import Home

VARIABLES = {"redis": "REDIS_URL", "kafka": "KAFKA_BOOTSTRAP_SERVERS", "postgres": "DATABASE_URL"}


def server_ports(part: str) -> tuple[int, int]:
    """Where the server listens, and where its proxy must; 0 = anywhere.

    Kafka tells its clients its address, so a native stack's has a listener that tells the address of its proxy.
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
