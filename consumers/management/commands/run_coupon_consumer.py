import logging
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from django.conf import settings

from consumers.child import wait_for_topic
from consumers.config import consumer_config
from consumers.registry import Handler, handler_of
from consumers.supervisor import Supervisor
from consumers.watch import ConsumerSilent
from consumers.worker import PoisonFlood, Worker
from coupons.errors import DATABASE_DOWN, OperatorError, RetryLater, one_line
from coupons.management.command import CouponCommand, stop_on_signals, whole_number
from coupons.messaging.kafka import BrokersLost, ClientStatistics
from coupons.recovery.unknown_keys import refuse_unknown_keys
from coupons.redemption.codes import refuse_unknown_code_keys
from coupons.runtime.process import end_with_parent, freeze_imported_objects
from coupons.runtime.signal_event import SignalEvent

logger = logging.getLogger(__name__)
EXIT_POISON = 3
EXIT_DEFECT = 70  # sysexits.h: EX_SOFTWARE; the supervisor starts such a child again
ORPHAN_TIMEOUT_SEC = 30
"""A worker whose parent was killed may finish its batch; then its partitions go to others."""


class Command(CouponCommand):
    needs_session = True
    help = (
        "Read tickets from Kafka and write them to PostgreSQL as coupons, at the pace that PostgreSQL can take. "
        "The first SIGTERM or Ctrl-C finishes the batch, commits and leaves the group; the second stops at once. "
        "A worker process that dies is started again. Exits 1 when the topic is missing, or when Redis has lost its "
        "data and unread messages are signed with an unknown key; 3 when too many messages could not be written."
    )
    examples = """
  manage.py run_coupon_consumer
  manage.py run_coupon_consumer --concurrency 4 --batch-size 1000
  manage.py run_coupon_consumer --max-rate 200 --loglevel DEBUG     (at most 200 rows/s in all)
  manage.py run_coupon_consumer --solo                              (one process, for a container)
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--concurrency",
            type=whole_number(1, 256),
            default=1,
            help="worker processes; more than the topic has partitions are idle (default %(default)s)",
        )
        parser.add_argument(
            "--batch-size",
            type=whole_number(1, 10_000),
            default=settings.CONSUMER_BATCH_SIZE,
            help="most messages in one transaction (default %(default)s)",
        )
        parser.add_argument(
            "--max-rate",
            type=whole_number(0),
            default=0,
            help="messages per second of all worker processes together; 0 = no limit (default %(default)s)",
        )
        parser.add_argument(
            "--loglevel",
            type=str.upper,
            choices=["DEBUG", "INFO", "WARNING", "ERROR"],
            default=settings.LOG_LEVEL,
            help="default %(default)s",
        )
        parser.add_argument("--topic", default=settings.TOPIC, help="a topic with a handler (default %(default)s)")
        parser.add_argument("--solo", action="store_true", help="work in this process, without a supervisor")
        parser.add_argument("--child-of", type=int, help="used by the supervisor: end when this process ends")
        parser.add_argument("--patient", action="store_true", help="wait for a topic that is missing")

    def run(self, **options: Any) -> None:
        for name in ("coupons", "consumers"):
            logging.getLogger(name).setLevel(options["loglevel"])
        try:
            handler = handler_of(options["topic"])
        except LookupError as error:
            raise OperatorError(f"--topic: {error}") from None
        if options["child_of"] is None:
            self.stdout.write(_banner(handler, options))
        if options["solo"]:
            self._work(handler, options)
        else:
            supervisor = Supervisor(
                _child_command(options),
                concurrency=options["concurrency"],
                final_exit_codes=frozenset({1, EXIT_POISON}),
            )
            sys.exit(supervisor.run())

    def _work(self, handler: Handler, options: dict[str, Any]) -> None:
        stop = SignalEvent()
        stop_on_signals(stop)
        if options["child_of"] is not None:
            end_with_parent("consumer", stop.set, parent_pid=options["child_of"], timeout_sec=ORPHAN_TIMEOUT_SEC)
        if not wait_for_topic(handler.topic, stop, patient=options["patient"]):
            return
        if not options["patient"]:
            try:
                refuse_unknown_keys()
                refuse_unknown_code_keys()
            except (RetryLater, *DATABASE_DOWN) as error:
                # An outage does not prevent the start: the worker waits for the part, and a rebuild checks the keys.
                logger.info("consumer.keys_not_checked error=%s", one_line(error))
        statistics = ClientStatistics()
        worker = Worker(
            consumer=Consumer(consumer_config(handler.group, statistics.read)),
            statistics=statistics,
            handler=handler,
            stop=stop,
            batch_size=options["batch_size"],
            max_rate=options["max_rate"] / (1 if options["child_of"] is None else options["concurrency"]),
            poison_limit=settings.CONSUMER_POISON_LIMIT,
        )
        freeze_imported_objects()
        exit_code = self._run(worker)
        if not worker.has_left:  # a thread hangs; all work is committed
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit_code)
        if exit_code:
            sys.exit(exit_code)

    def _run(self, worker: Worker) -> int:
        try:
            worker.run()
        except PoisonFlood as error:
            self.stderr.write(self.style.ERROR(str(error)))
            return EXIT_POISON
        except BrokersLost as error:
            logger.error("consumer.lost_brokers exit=%d error=%s", EXIT_DEFECT, error)  # noqa: TRY400  a restart helps
            return EXIT_DEFECT
        except ConsumerSilent as error:
            logger.error("consumer.silent exit=%d error=%s", EXIT_DEFECT, error)  # noqa: TRY400  a restart helps
            return EXIT_DEFECT
        except Exception:
            # A fatal error of the client, or a defect. The batch in hand is not committed, so it is delivered again.
            logger.exception("consumer.ended exit=%d", EXIT_DEFECT)
            return EXIT_DEFECT
        return 0


def _child_command(options: dict[str, Any]) -> list[str]:
    names = ("concurrency", "batch_size", "max_rate", "loglevel", "topic")
    passed_on = [f"--{name.replace('_', '-')}={options[name]}" for name in names]
    manage = str(Path(settings.BASE_DIR) / "manage.py")
    return [sys.executable, manage, "run_coupon_consumer", "--solo", f"--child-of={os.getpid()}", *passed_on]


def _banner(handler: Handler, options: dict[str, Any]) -> str:
    database = settings.DATABASES["default"]
    rate = f"{options['max_rate']} messages/s" if options["max_rate"] else "no limit"
    lines = {
        "topic": f"{handler.topic}, group {handler.group} ({settings.CONSUMER_GROUP_PROTOCOL} protocol)",
        "handler": f"{handler.handle.__module__}.{handler.handle.__name__}",
        "brokers": settings.KAFKA_BOOTSTRAP_SERVERS,
        "database": f"{database['NAME']} at {database['HOST']}:{database['PORT']}",
        "workers": f"{options['concurrency']} (processes)" if not options["solo"] else "1 (this process)",
        "batch size": options["batch_size"],
        "max rate": rate,
    }
    return "\n".join(
        [f"coupon consumer, pid {os.getpid()}", *(f"  {name:<11}{value}" for name, value in lines.items())]
    )
