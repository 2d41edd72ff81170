"""A small disk for the coupons' table, and how it fills up. For root alone."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.db import connection
from stack_parts.postgres import SYSTEM_USER


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
            cursor.execute("ALTER TABLE coupons_coupon SET TABLESPACE pg_default")
            cursor.execute("CHECKPOINT")  # frees the files of the table that has moved
            cursor.execute("DROP TABLESPACE small")


@contextmanager
def fill(disk: Path) -> Iterator[None]:
    """To the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()
