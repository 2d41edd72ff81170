"""Measures the bytes of Redis per winner, pending and issued, and checks that a refused user costs none."""

import time
import uuid
from typing import Any

from benchmarks.figures import Mark, at_most
from benchmarks.workload import LOADED_EPOCH, Run, admit_all, eight_digits, open_new
from coupons.admission import ticket_store
from coupons.admission.scripts import admission_redis

SETTLE_SEC = 10.0


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    count = run.size(100_000, 5_000)
    kinds = {"8-digit ids": eight_digits(count), "UUIDs": [str(uuid.uuid4()) for _ in range(count)]}
    found = {kind: _bytes_per_winner(users) for kind, users in kinds.items()}
    refused = round(_bytes_per_refused(count))
    notes = {
        f"Redis, a winner, {kind}": f"{issued:.0f} bytes issued, {pending:.0f} pending"
        for kind, (pending, issued) in found.items()
    }
    return {"winners": count, "notes": {**notes, "Redis, a refused user": f"{refused} bytes"}}, [
        at_most("Redis, a winner whose coupon is issued", max(issued for _, issued in found.values()), 150, " bytes"),
        at_most("Redis, a refused user, in whole bytes", refused, 0, " bytes"),
    ]


def _bytes_per_winner(users: list[str]) -> tuple[float, float]:
    campaign_id = open_new("memory", len(users))
    empty = _used_bytes()
    assert len(admit_all(campaign_id, users)) == len(users)
    pending = _used_bytes()
    ticket_store.settle(epochs={campaign_id: LOADED_EPOCH}, users={campaign_id: users})
    return (pending - empty) / len(users), (_used_bytes() - empty) / len(users)


def _bytes_per_refused(count: int) -> float:
    campaign_id = open_new("refused", 1)
    admit_all(campaign_id, ["first"])
    before = _used_bytes()
    assert admit_all(campaign_id, eight_digits(count)) == []
    return (_used_bytes() - before) / count


def _used_bytes() -> int:
    """Waits until used_memory, without the buffers of connections and the append-only file, stays the same."""
    deadline, last = time.monotonic() + SETTLE_SEC, -1
    while time.monotonic() < deadline:
        info: Any = admission_redis().info("memory")
        used = int(info["used_memory"] - info["mem_clients_normal"] - info["mem_aof_buffer"])
        if used == last:
            break
        last = used
        time.sleep(0.3)
    return last
