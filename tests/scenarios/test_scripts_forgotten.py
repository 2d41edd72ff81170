"""Row 9: Redis forgets the scripts, as after a restart or a SCRIPT FLUSH: nobody notices."""

import threading

from coupons.admission.scripts import admission_redis
from coupons.models import FailEventHistory
from faults.visits import Habits
from tests.support.matrix import Row
from tests.support.patience import PATIENT
from tests.support.promises import assert_history_holds
from tests.support.service import Service


def test_scripts_that_redis_forgets_are_loaded_again(service: Service) -> None:
    """Without a pause, so that they are gone again between any two commands of web, consumer and keeper."""
    _, consumer, keeper = service.everything(**PATIENT)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=100))
    row = Row(9, crowd)
    crowd.goes_on("before", users=30)
    over = threading.Event()
    with row.fault("redis: SCRIPT FLUSH, again and again"):
        flushing = threading.Thread(target=flush_scripts, args=(over,))
        flushing.start()
        try:
            crowd.goes_on("while scripts are forgotten", users=200)
        finally:
            over.set()
            flushing.join()
    row.goes_on(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    assert {status for status, _ in crowd.answers} == {200, 202}, crowd.answers
    for process in (consumer, keeper):
        assert "WARNING" not in process.output
        assert "rebuild." not in process.output
    assert not FailEventHistory.objects.exists()
    row.write()


def flush_scripts(over: threading.Event) -> None:
    while not over.is_set():
        admission_redis().script_flush()
