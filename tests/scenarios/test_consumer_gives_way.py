"""A consumer's worker process is nicer than the web server beside it, with all of its threads."""

import re
from pathlib import Path

from tests.support.service import Service


def test_a_worker_process_is_nice_as_the_setting_says_and_its_parent_is_not(service: Service) -> None:
    parent = service.consumer(COUPON_CONSUMER_NICE="7")
    found = re.search(r"supervisor\.started child=1 pid=(\d+)", parent.output)
    assert found is not None

    assert set(niceness(parent.pid)) == {0}
    worker = niceness(int(found[1]))
    assert set(worker) == {7}
    assert len(worker) > 5, "librdkafka's threads are among them"
    group = Path(f"/proc/{found[1]}/autogroup")
    assert not group.exists() or group.read_text().strip().endswith(" nice 7")


def niceness(pid: int) -> list[int]:
    """Of each of its threads: the 19th field of stat, the 17th after the name in brackets."""
    stats = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [int(stat.rpartition(")")[2].split()[16]) for stat in stats]
