"""`manage.py run_coupon_consumer --solo` with a client that falls silent.

    python -m tests.support.silent_consumer KIND

KIND is how: `paused` has its partitions and never gets a message; `absent` never joins its group.
"""

import os
import sys
from typing import Any

import confluent_kafka


class Paused(confluent_kafka.Consumer):
    def incremental_assign(self, partitions: Any) -> None:
        super().incremental_assign(partitions)
        self.pause(partitions)

    def resume(self, partitions: Any) -> None:
        """Never."""


class Absent(confluent_kafka.Consumer):
    def subscribe(self, *arguments: Any, **callbacks: Any) -> None:
        """Never."""


KINDS = {"paused": Paused, "absent": Absent}

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
    import django
    from django.core.management import execute_from_command_line

    django.setup()

    from consumers import watch
    from consumers.management.commands import run_coupon_consumer

    watch.CHECK_INTERVAL_SEC, watch.SILENT_SEC = 0.3, 2.0
    setattr(run_coupon_consumer, "Consumer", KINDS[sys.argv[1]])  # noqa: B010  mypy refuses the assignment
    execute_from_command_line(["manage.py", "run_coupon_consumer", "--solo"])
