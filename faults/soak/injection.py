"""Injects each fault of the schedule, and returns the function that ends it."""

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import psycopg2
from django.db import connection
from psycopg2 import sql

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import pause_campaign
from coupons.errors import DATABASE_DOWN, OperatorError, PushDidNotArrive, RetryLater
from coupons.messaging.topics import create_topic
from coupons.models import Campaign
from faults import failpoints
from faults.crowd import Crowd
from faults.history import STOPPED_ADDRESS
from faults.proxy import Proxy
from faults.soak.deployment import API_KEY, Deployment
from faults.soak.failovers import hand_redis_over, lose_primary_of_postgresql
from faults.soak.log_faults import cut_a_log, join_and_commit_to_the_end, set_offsets
from faults.soak.operators import change_quantity, resume
from faults.soak.refused_ticket import RefusedTicket
from faults.soak.retrying import retry_until_true
from faults.soak.schedule import CONSUMERS, Fault, Step

Undo = Callable[[], object]
RAISE_BY, LOWER_BY = 40, 20
TERMINATE_WAITERS = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
AUDIT = "coupons_auditentry"
TABLES_WITH_IDS = ("coupons_coupon", "coupons_faileventhistory", "coupons_couponevent", AUDIT)
CLOCK_STEPS_SEC = (-7_200, -86_400, -3, 3, 7_200, 86_400)


def no_undo() -> None:
    """The end of a fault that is over at once."""


class Injection:
    """`inject` begins a step's fault and returns the function that ends it.

    `chance` is a random generator with a seed of the step's own, so that the same seed repeats the same choices.
    """

    def __init__(self, deployment: Deployment, crowd: Crowd, campaigns: list[UUID], *, database: str, url: str) -> None:
        self._deployment = deployment
        self._crowd = crowd
        self._campaigns = campaigns
        self._database = database
        self._url = url

    def inject(self, step: Step) -> Undo:
        fault = step.fault
        if fault.part.startswith("link to "):
            return self._link(fault)
        undo: Undo = getattr(self, f"_{fault.name}")(fault, random.Random(f"{step.at_sec}{fault.name}"))
        return undo

    def details(self, step: Step) -> dict[str, str]:
        """The details that the history needs of this step."""
        stopped = step.fault.name in ("process_hanging", "worker_hanging")
        address = self._deployment.address_of(step.fault.target) if stopped else None
        return {STOPPED_ADDRESS: address} if address else {}

    # --- servers ---

    def _killed(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.stack("kill", fault.target)
        return lambda: self._deployment.stack("start", fault.target)

    def _hanging(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.stack("pause", fault.target)
        return lambda: self._deployment.stack("resume", fault.target)

    def _flushed(self, fault: Fault, chance: random.Random) -> Undo:
        admission_redis().flushall()
        return no_undo

    def _key_lost(self, fault: Fault, chance: random.Random) -> Undo:
        admission_redis().delete(chance.choice(campaign_keys(chance.choice(self._campaigns))))
        return no_undo

    def _scripts_forgotten(self, fault: Fault, chance: random.Random) -> Undo:
        admission_redis().script_flush()
        return no_undo

    def _failed_over(self, fault: Fault, chance: random.Random) -> Undo:
        [link] = self._deployment.proxies["redis"]
        return hand_redis_over(link)

    def _wiped(self, fault: Fault, chance: random.Random) -> Undo:
        for verb in ("kill", "wipe", "start"):
            self._deployment.stack(verb, "kafka")
        retry_until_true(create_topic)
        return no_undo

    def _log_cut(self, fault: Fault, chance: random.Random) -> Undo:
        # A broker that stops removes itself from the brokers' list, and a client without any broker ends its process.
        self._deployment.expected_exits.kafka_lost()
        self._deployment.stack("stop", "kafka")
        try:
            cut_a_log(chance)
        finally:
            self._deployment.stack("start", "kafka")
        return no_undo

    def _foreign_consumer(self, fault: Fault, chance: random.Random) -> Undo:
        return join_and_commit_to_the_end()

    def _offsets_set(self, fault: Fault, chance: random.Random) -> Undo:
        for name in CONSUMERS:
            self._deployment.stop(name)
        try:
            retry_until_true(lambda: set_offsets(to_the_end=fault.target == "end"))
        finally:
            for name in CONSUMERS:
                self._deployment.start_again(name)
        return no_undo

    def _standby_promoted(self, fault: Fault, chance: random.Random) -> Undo:
        return lose_primary_of_postgresql(self._deployment, fault.target, self._campaigns)

    def _connections_ended(self, fault: Fault, chance: random.Random) -> Undo:
        self._sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self._database])
        return no_undo

    def _table_locked(self, fault: Fault, chance: random.Random) -> Undo:
        locker = psycopg2.connect(self._database_url, connect_timeout=3)
        with locker.cursor() as cursor:
            cursor.execute("SET lock_timeout = '20s'")
            cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(fault.target)))
        return locker.close

    def _read_only(self, fault: Fault, chance: random.Random) -> Undo:
        name = sql.Identifier(self._database)
        self._sql(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        self._connections_ended(fault, chance)

        def undo() -> bool:
            self._sql(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
            self._connections_ended(fault, chance)
            return True

        return lambda: retry_until_true(undo)

    def _sequences_set_back(self, fault: Fault, chance: random.Random) -> Undo:
        """Sets the id sequences back, as a restored dump or a copied table leaves them: the next ids are in use."""
        for table in TABLES_WITH_IDS:
            self._sql("SELECT setval(pg_get_serial_sequence(%s, 'id'), 1)", [table], url=self._database_url)
        return no_undo

    # --- links ---

    def _link(self, fault: Fault) -> Undo:
        proxies = self._deployment.proxies[fault.target]
        rules: dict[str, Callable[[Proxy], object]] = {
            "delayed": lambda proxy: proxy.delay(150, jitter_ms=100),
            "held": Proxy.hold,
            "swallowed": Proxy.blackhole,
            "reset": Proxy.reset,
            "cut": lambda proxy: proxy.cut_after(3_000),
        }
        for proxy in proxies:
            rules[fault.name](proxy)

        def undo() -> None:
            for proxy in proxies:
                proxy.let_pass()

        return undo

    # --- processes ---

    def _process_killed(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.kill(fault.target)
        return no_undo

    def _process_stopped(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.stop(fault.target)
        return lambda: self._deployment.start_again(fault.target)

    def _process_hanging(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.pause(fault.target)
        return lambda: self._deployment.resume(fault.target)

    def _worker_hanging(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.pause_child(fault.target)
        return lambda: self._deployment.resume(fault.target)

    def _clock_stepped(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.step_clock(fault.target, chance.choice(CLOCK_STEPS_SEC))
        return lambda: self._deployment.step_clock(fault.target, 0)

    def _child_killed(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.kill_child(fault.target)
        return no_undo

    def _dies_at(self, fault: Fault, chance: random.Random) -> Undo:
        """Kills a process that reaches the failpoint within the step's time."""
        self._deployment.expected_exits.armed(fault.target)
        failpoints.arm(self._deployment.failpoints, fault.target, f"kill@{chance.randint(1, 5)}")

        def undo() -> None:
            failpoints.disarm(self._deployment.failpoints, fault.target)
            self._deployment.expected_exits.disarmed(fault.target)

        return undo

    # --- operators and jobs ---

    def _quantity_raised(self, fault: Fault, chance: random.Random) -> Undo:
        change_quantity(self._campaign(chance), by=RAISE_BY, history=self._crowd.history)
        return no_undo

    def _quantity_lowered(self, fault: Fault, chance: random.Random) -> Undo:
        change_quantity(self._campaign(chance), by=-LOWER_BY, history=self._crowd.history)
        return no_undo

    def _lowered_while_audit_locked(self, fault: Fault, chance: random.Random) -> Undo:
        """Lowers a quantity while the audit table is locked, then raises it. Redis gets a lower quantity first; the
        write to PostgreSQL waits, and in half of the cases it is terminated."""
        unlock, terminate = self._table_locked(replace(fault, target=AUDIT), chance), chance.random() < 0.5

        def end() -> None:
            if terminate:
                self._sql(TERMINATE_WAITERS, [AUDIT], url=self._database_url)
            unlock()

        timer = threading.Timer(chance.uniform(1, 10), end)
        timer.start()
        campaign = self._campaign(chance)
        change_quantity(campaign, by=-LOWER_BY, history=self._crowd.history)
        if campaign is not None:
            again = retry_until_true(lambda: Campaign.objects.get(pk=campaign.pk))
            change_quantity(again, by=RAISE_BY, history=self._crowd.history)
        return timer.join

    def _admission_paused(self, fault: Fault, chance: random.Random) -> Undo:
        campaign = self._campaign(chance)
        if campaign is None:
            return no_undo
        with suppress(OperatorError, PushDidNotArrive, RetryLater, *DATABASE_DOWN):
            pause_campaign(campaign_id=campaign.pk, actor="soak")
        return lambda: retry_until_true(lambda: resume(campaign.pk))

    def _retried(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.manage("retry_failed_coupons")
        return no_undo

    def _holds_tidied(self, fault: Fault, chance: random.Random) -> Undo:
        self._deployment.manage("tidy_holds")
        return no_undo

    def _ticket_refused_twice(self, fault: Fault, chance: random.Random) -> Undo:
        ticket = RefusedTicket(
            user_id=f"refused-{time.time_ns()}",
            campaign_id=chance.choice(self._campaigns),
            run_sql=lambda statement: self._sql(statement, url=self._database_url),
        )
        ticket.refuse()
        try:
            if ticket.apply(chance.choice(self._deployment.addresses), API_KEY, self._crowd.history):
                ticket.send_again()
        finally:
            ticket.allow()
        ticket.retry()
        return no_undo

    # --- helpers ---

    def _campaign(self, chance: random.Random) -> Campaign | None:
        connection.close()
        try:
            return Campaign.objects.get(pk=chance.choice(self._campaigns))
        except DATABASE_DOWN:
            return None  # the operator sees an error page and changes nothing

    @property
    def _database_url(self) -> str:
        """The URL of the soak's database. `url` names the server's own database, from which this one can be altered."""
        return os.environ["DATABASE_URL"]

    def _sql(self, statement: str | sql.Composable, values: list[str] | None = None, *, url: str = "") -> None:
        """Runs the statement on the server itself, past every proxy. Raises psycopg2.Error during another fault."""
        server = psycopg2.connect(url or self._url, connect_timeout=3)
        server.autocommit = True
        with server.cursor() as cursor:
            cursor.execute(statement, values)
        server.close()
