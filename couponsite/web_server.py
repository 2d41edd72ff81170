"""Serves the web application with granian: `bin/web`.

The settings are checked once, before a worker starts. The modules are imported once too: workers are forked, and share
the memory of what this process has imported.
"""

import gc
import os
import socket
import sys
from pathlib import Path

import django
from django.core.exceptions import ImproperlyConfigured
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops

from coupons.runtime.process import STOP_TIMEOUT_SEC, freeze_imported_objects, refuse_bad_settings, use_web_database
from couponsite.terminal import make_printing_harmless


def main() -> None:
    gc.disable()  # until the apps are loaded (coupons/apps.py)
    make_printing_harmless()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
    try:
        prepare()
        from django.conf import settings

        check_address(settings.WEB_HOST, settings.WEB_PORT)
    except ImproperlyConfigured as error:
        sys.exit(f"bin/web: {error}")
    Granian(
        "couponsite.asgi:application",
        address=settings.WEB_HOST,
        port=settings.WEB_PORT,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        workers=settings.WEB_WORKERS,
        backlog=4096,
        backpressure=10_000,  # requests that may wait in a worker, each a coroutine
        respawn_failed_workers=True,
        respawn_interval=1,
        workers_kill_timeout=STOP_TIMEOUT_SEC,  # for a request that hangs
    ).serve()


def prepare() -> None:
    """Reads the settings, checks them and Redis, and imports what each worker needs. Raises ImproperlyConfigured.

    Leaves no connection and starts no thread: neither would survive the fork.
    """
    from django.conf import settings

    folder = settings.METRICS_DIR
    if folder is not None:
        remove_ended_processes_files(folder)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # prometheus_client reads it when it is imported
    use_web_database()
    django.setup()
    refuse_bad_settings()
    from django.db import connections

    import coupons.front.front  # noqa: F401
    import couponsite.urls  # noqa: F401  the workers share what these import
    from coupons.admission.scripts import admission_redis, refuse_cluster

    refuse_cluster()
    admission_redis().connection_pool.disconnect()
    connections.close_all()
    freeze_imported_objects()


def remove_ended_processes_files(folder: Path) -> None:
    """Each process writes its metrics to files of its own, and /metrics adds them up: files of ended processes would
    count for ever. Those of running processes (a consumer, another web server) stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*_*.db"):
        if not Path("/proc", file.stem.rpartition("_")[2]).is_dir():
            file.unlink(missing_ok=True)


def check_address(host: str, port: int) -> None:
    """Refuses a port that is taken: granian listens with SO_REUSEPORT, so a second server on it would start and take
    half of the first one's connections (tried with 2.8.7). Raises ImproperlyConfigured."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ImproperlyConfigured(
            f"cannot listen on {host}:{port}: {error.strerror}. Choose another: WEB_PORT=8123 make web"
        ) from None


if __name__ == "__main__":
    main()
