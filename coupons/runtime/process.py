"""The start and the end of a process that serves: a web worker's or a consumer's."""

import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)
PARENT_WATCH_SEC = 0.5
STOP_TIMEOUT_SEC = 15
"""What a web worker has in hand may take so long; couponsite/web_server.py tells granian the same."""
EXIT_HANGS: Final = 71
SESSION: Final = "session"
"""The tag of the check that compares PostgreSQL's session with what was asked for (coupons/checks/session.py)."""


def use_web_database() -> None:
    """Gives this process the database of web processes. Call it before the first connection is made."""
    settings.DATABASES["default"] = settings.WEB_DATABASE


def refuse_bad_settings() -> None:
    """Runs the system checks, which Django runs for commands but not for a web server. Logs the warnings, and raises
    ImproperlyConfigured with the first error."""
    for message in [*run_checks(tags=["coupons"]), *run_checks(tags=[SESSION], include_deployment_checks=True)]:
        if message.is_serious():
            raise ImproperlyConfigured(f"{message.id}: {message.msg} {message.hint}")
        logger.warning("web.check id=%s text=%s hint=%s", message.id, message.msg, message.hint)


def freeze_imported_objects() -> None:
    """Exempts all imported objects from garbage collection. Call it at the end of a process's start.

    A full collection would scan all of Django while no other code runs: an eighth of a consumer's CPU
    (docs/decisions/0022), and a tenth of a second without answers in a web process (docs/decisions/0029).
    """
    gc.collect()
    gc.freeze()


def end_with_parent(
    part: str, stop: Callable[[], object], *, parent_pid: int, timeout_sec: float = STOP_TIMEOUT_SEC
) -> None:
    """Watches the parent from now on. If it is killed, which passes no stop on, calls `stop`, and ends this process if
    it has not ended by itself `timeout_sec` later. `part` begins the names of the log's events.

    Otherwise a consumer would hold its partitions, and granian's workers answer on (2.8.7: for more than a minute): the
    next server on that port gets a part of the connections, and the old workers go on with the old settings.
    """

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(PARENT_WATCH_SEC)
        logger.warning("%s.parent_gone pid=%d", part, parent_pid)
        stop()
        time.sleep(timeout_sec)
        logger.error("%s.not_finished after=%ds", part, timeout_sec)
        os._exit(EXIT_HANGS)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
