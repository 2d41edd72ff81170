"""A web worker whose server was killed by SIGKILL: it answers what it has in hand, flushes its producer and ends.

granian's workers do not notice (tried with 2.8.7: they answered for more than a minute). The next server on that port
would get a part of the connections only, and the workers of the last one would go on with its settings.
"""

import logging
import os
import signal
import threading
import time

from django.conf import settings

logger = logging.getLogger("coupons.web")
WATCH_SEC = 0.5
EXIT_HANGS = 71


def end_with_parent() -> None:
    """Call once in a worker. Ends this process after its parent, gracefully if COUPON_WEB_STOP_TIMEOUT_SEC suffice."""
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent-watch", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(WATCH_SEC)
    logger.warning("web.parent_gone pid=%d", parent_pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(settings.WEB_STOP_TIMEOUT_SEC)  # as bin/web's --workers-kill-timeout
    logger.error("web.not_finished after=%ds", settings.WEB_STOP_TIMEOUT_SEC)
    os._exit(EXIT_HANGS)
