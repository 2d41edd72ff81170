"""How long tests wait for servers that stand still for a moment: far longer than users do.

The product's time-outs (0.5 s for Redis, 1 s for an answer) are right for users. In a test that is about something else
they would make a machine that stands still for a moment look like a defect. A test that stops a server has them back.
"""

from typing import Final

from django.conf import LazySettings, settings

from coupons.admission.scripts import admission_redis

LONG_MS: Final = 20_000
REQUEST_TIMEOUTS: Final = ("ACCEPT_TIMEOUT_MS", "API_DATABASE_TIMEOUT_MS")


def web_timeouts(*, accept_ms: int = 1_000, delivery_ms: int = 5_000, redis_ms: int = 500) -> dict[str, str]:
    """Variables for a web server, the product's unless told otherwise."""
    return {
        "COUPON_ACCEPT_TIMEOUT_MS": str(accept_ms),
        "COUPON_DELIVERY_TIMEOUT_MS": str(delivery_ms),
        "COUPON_REDIS_SOCKET_TIMEOUT_MS": str(redis_ms),
    }


# What Kafka does not take is given up after a second, and published again after three; not after 5 s and 7 s.
RELAY_SOON: Final = {"COUPON_DELIVERY_TIMEOUT_MS": "1000"}
# For a test that counts every answer, and is not about how soon they come. Shorter than a crowd's users wait.
LONG_TIMEOUTS: Final = web_timeouts(accept_ms=4_000, redis_ms=3_000)


class OwnTimeouts:
    """This process's for Redis; with `requests`, also those of the API when it is called in this process."""

    def __init__(self, settings: LazySettings) -> None:
        self._settings = settings
        self._usual = {name: getattr(settings, name) for name in REQUEST_TIMEOUTS}
        self.requests = False

    def lengthen(self) -> None:
        wait_for_redis(LONG_MS)
        if self.requests:
            for name in REQUEST_TIMEOUTS:
                setattr(self._settings, name, LONG_MS)

    def restore(self, stopped: str) -> None:
        """While this server is stopped."""
        if stopped == "redis":
            wait_for_redis(settings.REDIS_SOCKET_TIMEOUT_MS)
        if self.requests:
            for name, usual in self._usual.items():
                setattr(self._settings, name, usual)


def wait_for_redis(timeout_ms: int) -> None:
    """COUPON_REDIS_SOCKET_TIMEOUT_MS of this process's client alone: the setting also decides how long a rebuild
    waits."""
    pool = admission_redis().connection_pool
    timeout_sec = timeout_ms / 1000
    if pool.connection_kwargs["socket_timeout"] != timeout_sec:
        pool.connection_kwargs.update(socket_timeout=timeout_sec, socket_connect_timeout=timeout_sec)
        pool.disconnect(inuse_connections=False)
        pool.reset()  # its connections have the time-out that they were made with
