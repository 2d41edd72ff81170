"""Row 22: PostgreSQL takes no more writes, read-only or full. The consumer waits, and users are admitted meanwhile."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.db import connection
from stack_parts.postgres import SYSTEM_USER

from coupons.models import FailEventHistory
from faults.visits import Habits
from tests.support.group import (
    MAX_POLL_INTERVAL,
    assert_admission_went_on,
    assert_membership_kept,
    assert_offsets_stay,
)
from tests.support.matrix import Row
from tests.support.patience import PATIENT
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.sessions import end_other_sessions

MANY = Habits(users_per_sec=80)
FILLER = "filler"


def test_a_read_only_database_costs_no_place(service: Service) -> None:
    """As after a failover to a server that is not promoted yet. Sessions stay as they began, whatever is set later."""
    consumer = service.consumer("--solo", **MAX_POLL_INTERVAL)
    keeper = service.keeper(**PATIENT)
    service.web(**PATIENT)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(22, crowd, name="read-only")
    crowd.goes_on("before", users=50)

    with row.fault("postgres: default_transaction_read_only for 5 s"):
        with read_only_for_new_sessions():
            end_other_sessions()
            consumer.says("read-only transaction")
            assert_offsets_stay(crowd)
        consumer.says("consumer.resumed")
    row.goes_on(users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    assert not FailEventHistory.objects.exists()
    assert_membership_kept(consumer)
    assert_admission_went_on(crowd)
    assert (consumer.stop(), keeper.stop()) == (0, 0)
    row.write()


@pytest.mark.system
def test_a_full_disk_costs_no_place(service: Service) -> None:
    """The coupons' table lies on a file system of its own, of 16 MiB."""
    consumer = service.consumer("--solo", **MAX_POLL_INTERVAL)
    keeper = service.keeper(**PATIENT)
    service.web(**PATIENT)
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(22, crowd, name="full")
    with small_disk() as disk, coupons_on(disk):
        crowd.goes_on("before", users=50)
        with row.fault("postgres: the disk of coupons_coupon full for 5 s"):
            fill(disk)
            consumer.says("No space left on device")
            assert_offsets_stay(crowd)
            (disk / FILLER).unlink()
            consumer.says("consumer.resumed")
        row.goes_on(users=30)

        assert_history_holds(crowd, campaigns=[campaign])
        assert not FailEventHistory.objects.exists()
    assert_membership_kept(consumer)
    assert_admission_went_on(crowd)
    assert (consumer.stop(), keeper.stop()) == (0, 0)
    row.write()


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system in memory whose folder is the server user's own; unmounted and removed whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0755", "coupons-test", str(folder)], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)  # one of the server's processes may look yet
    finally:
        folder.rmdir()


@contextmanager
def coupons_on(disk: Path) -> Iterator[None]:
    """The table of coupons lies there; afterwards where it was before."""
    place = disk / "tablespace"
    place.mkdir()
    shutil.chown(disk, SYSTEM_USER)
    shutil.chown(place, SYSTEM_USER)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLESPACE small LOCATION %s", [str(place)])
        try:
            cursor.execute("ALTER TABLE coupons_coupon SET TABLESPACE small")
            yield
        finally:
            (disk / FILLER).unlink(missing_ok=True)
            cursor.execute("ALTER TABLE coupons_coupon SET TABLESPACE pg_default")
            cursor.execute("CHECKPOINT")  # frees the files of the table that has moved
            cursor.execute("DROP TABLESPACE small")


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / FILLER).open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextmanager
def read_only_for_new_sessions() -> Iterator[None]:
    """This process's own session has begun before."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
