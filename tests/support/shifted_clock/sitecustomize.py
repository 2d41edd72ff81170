"""The wall clock of a host that is wrong, for a program that is started with this folder on its PYTHONPATH.

SHIFTED_CLOCK_FILE holds by how many seconds, read anew at each look. time.time(), datetime.now() and the timestamps of
librdkafka's messages show it; the monotonic clock stays right, as when a host's time is set. libfaketime would shift
libc's clock, but Python's sleep() fails under it (EINVAL).
"""

import ctypes
import datetime as dt
import gc
import os
import time
from pathlib import Path
from typing import Any

import confluent_kafka

_file = Path(os.environ["SHIFTED_CLOCK_FILE"])
_time = time.time


def _shifted_time() -> float:
    return _time() + float(_file.read_text())


def _shifted_now(cls: Any, tz: Any = None) -> Any:
    return cls.fromtimestamp(_shifted_time(), tz)


class _ShiftedProducer(confluent_kafka.Producer):
    def produce(self, *args: Any, **more: Any) -> None:
        more["timestamp"] = int(_shifted_time() * 1000)
        super().produce(*args, **more)


time.time = _shifted_time
time.time_ns = lambda: int(_shifted_time() * 1_000_000_000)
# Into the class itself, which is C's: msgspec takes no subclass in its place.
gc.get_referents(dt.datetime.__dict__)[0]["now"] = classmethod(_shifted_now)
ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
confluent_kafka.Producer = _ShiftedProducer  # type: ignore[misc]
