"""A consumer that kills itself by SIGKILL at a given point of its first batch.

`python -m tests.support.dying_consumer POINT`

It is the real worker with the real handler; only the step that it dies at is wrapped. Points, in their order:

    before-database-commit   the coupons are inserted, the transaction is open
    before-settle            the database has committed, Redis has them pending still
    before-offset-commit     the handler has returned, the group's offset has not moved
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import django
from confluent_kafka import Consumer
from django.conf import settings

POINTS = ("before-database-commit", "before-settle", "before-offset-commit")


def main(point: str) -> None:
    import consumers.coupon_create
    from consumers.kafka_config import consumer_config
    from consumers.registry import Handler, handler_of
    from consumers.worker import Worker

    handler_module: Any = consumers.coupon_create
    handler = handler_of(settings.TOPIC)
    if point == "before-database-commit":
        handler_module.issue_coupons = _then_die(handler_module.issue_coupons)
    elif point == "before-settle":
        handler_module.settle_tickets = _die
    else:
        handler = Handler(handler.topic, handler.group, _then_die(handler.handle))
    worker = Worker(
        consumer=Consumer(consumer_config(handler.group)),
        handler=handler,
        stop=threading.Event(),
        batch_size=100,
        max_rate=0,
        poison_limit=1,
    )
    worker.run()


def _then_die(step: Callable[..., Any]) -> Callable[..., NoReturn]:
    def step_and_die(*arguments: Any) -> NoReturn:
        step(*arguments)
        _die()

    return step_and_die


def _die(*arguments: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "couponsite.settings")
    django.setup()
    main(sys.argv[1])
