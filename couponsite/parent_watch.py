"""Ends a web worker whose server was killed by SIGKILL: it finishes its requests, flushes its producer and exits.

granian's workers do not notice this themselves (2.8.7: they answered for more than a minute). The next server on that
port would get only a part of the connections, and the old workers would go on with the old settings.
"""

import logging
import os
import signal
import threading
import time

logger = logging.getLogger("coupons.web")
WATCH_SEC = 0.5
STOP_TIMEOUT_SEC = 15
"""What a worker has in hand may take so long; couponsite/web_server.py tells granian the same."""
EXIT_HANGS = 71


def end_with_parent() -> None:
    """Call once in a worker. Ends this process after its parent, gracefully if STOP_TIMEOUT_SEC suffice."""
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent-watch", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(WATCH_SEC)
    logger.warning("web.parent_gone pid=%d", parent_pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_SEC)
    logger.error("web.not_finished after=%ds", STOP_TIMEOUT_SEC)
    os._exit(EXIT_HANGS)
