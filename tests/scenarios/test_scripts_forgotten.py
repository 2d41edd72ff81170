"""Row 9: Redis forgets the scripts, as after a restart or a SCRIPT FLUSH: nobody notices."""

import threading

from coupons.admission.scripts import admission_redis
from tests.support.held_tickets import assert_only_promised_or
from tests.support.matrix import Row
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS


def test_scripts_that_redis_forgets_are_loaded_again(service: Service) -> None:
    """Without a pause, so that they are gone again between any two commands of web, consumer and keeper."""
    _, consumer, keeper = service.everything(**LONG_TIMEOUTS)
    row = Row.begin(service, 9)
    over = threading.Event()
    with row.fault("redis: SCRIPT FLUSH, again and again"):
        flushing = threading.Thread(target=flush_scripts, args=(over,))
        flushing.start()
        try:
            row.crowd.wait_for_promises("while scripts are forgotten", users=200)
        finally:
            over.set()
            flushing.join()
    row.wait_for_promises(users=30)

    row.holds()
    assert_only_promised_or(row.crowd)
    for process in (consumer, keeper):
        assert "WARNING" not in process.output
        assert "rebuild." not in process.output
    row.write()


def flush_scripts(over: threading.Event) -> None:
    while not over.is_set():
        admission_redis().script_flush()
