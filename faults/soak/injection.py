"""Each fault of the schedule: what does it, and what ends it."""

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
from coupons.runtime import failpoints
from faults.crowd import Crowd
from faults.history import STOPPED_ADDRESS
from faults.soak.log_faults import cut_a_log, join_and_commit_to_the_end, set_offsets
from faults.soak.operators import change_quantity, resumed
from faults.soak.refused_ticket import RefusedTicket
from faults.soak.schedule import CONSUMERS, Fault, Step
from faults.soak.until import until
from faults.soak.world import API_KEY, World

Undo = Callable[[], object]
MORE_COUPONS, LESS_COUPONS = 40, 20
END_WHO_WAIT = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
AUDIT = "coupons_auditentry"
WITH_IDS = ("coupons_coupon", "coupons_faileventhistory", AUDIT)
STEPS_SEC = (-7_200, -86_400, -3, 3, 7_200, 86_400)


def nothing() -> None:
    """What ends a fault that is over at once."""


class Injection:
    """`inject` begins a step's fault and returns what ends it. `chance` is the step's own, for what it leaves open."""

    def __init__(self, world: World, crowd: Crowd, campaigns: list[UUID], *, database: str, url: str) -> None:
        self._world = world
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
        """What the history's readers must know of it."""
        stopped = step.fault.name in ("process_hanging", "worker_hanging")
        address = self._world.address_of(step.fault.target) if stopped else None
        return {STOPPED_ADDRESS: address} if address else {}

    # --- servers ---

    def _killed(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.stack("kill", fault.target)
        return lambda: self._world.stack("start", fault.target)

    def _hanging(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.stack("pause", fault.target)
        return lambda: self._world.stack("resume", fault.target)

    def _flushed(self, fault: Fault, chance: random.Random) -> Undo:
        admission_redis().flushall()
        return nothing

    def _key_lost(self, fault: Fault, chance: random.Random) -> Undo:
        admission_redis().delete(chance.choice(campaign_keys(chance.choice(self._campaigns))))
        return nothing

    def _scripts_forgotten(self, fault: Fault, chance: random.Random) -> Undo:
        admission_redis().script_flush()
        return nothing

    def _wiped(self, fault: Fault, chance: random.Random) -> Undo:
        for verb in ("kill", "wipe", "start"):
            self._world.stack(verb, "kafka")
        until(create_topic)
        return nothing

    def _log_cut(self, fault: Fault, chance: random.Random) -> Undo:
        # A broker that is stopped takes itself off the list of brokers, and a client without any ends its process.
        self._world.ends.kafka_lost()
        self._world.stack("stop", "kafka")
        try:
            cut_a_log(chance)
        finally:
            self._world.stack("start", "kafka")
        return nothing

    def _foreign_consumer(self, fault: Fault, chance: random.Random) -> Undo:
        return join_and_commit_to_the_end()

    def _offsets_set(self, fault: Fault, chance: random.Random) -> Undo:
        for name in CONSUMERS:
            self._world.stop(name)
        try:
            until(lambda: set_offsets(to_the_end=fault.target == "end"))
        finally:
            for name in CONSUMERS:
                self._world.start_again(name)
        return nothing

    def _connections_ended(self, fault: Fault, chance: random.Random) -> Undo:
        self._sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self._database])
        return nothing

    def _table_locked(self, fault: Fault, chance: random.Random) -> Undo:
        locker = psycopg2.connect(self._own_url, connect_timeout=3)
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

        return lambda: until(undo)

    def _sequences_set_back(self, fault: Fault, chance: random.Random) -> Undo:
        """As a restored dump or a copied table leaves them: the next ids are there already."""
        for table in WITH_IDS:
            self._sql("SELECT setval(pg_get_serial_sequence(%s, 'id'), 1)", [table], url=self._own_url)
        return nothing

    # --- links ---

    def _link(self, fault: Fault) -> Undo:
        proxy = self._world.proxies[fault.target]
        rules: dict[str, Callable[[], object]] = {
            "delayed": lambda: proxy.delay(150, jitter_ms=100),
            "held": proxy.hold,
            "swallowed": proxy.blackhole,
            "reset": proxy.reset,
            "cut": lambda: proxy.cut_after(3_000),
        }
        rules[fault.name]()
        return proxy.let_pass

    # --- processes ---

    def _process_killed(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.kill(fault.target)
        return nothing

    def _process_stopped(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.stop(fault.target)
        return lambda: self._world.start_again(fault.target)

    def _process_hanging(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.pause(fault.target)
        return lambda: self._world.resume(fault.target)

    def _worker_hanging(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.pause_child(fault.target)
        return lambda: self._world.resume(fault.target)

    def _clock_stepped(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.step_clock(fault.target, chance.choice(STEPS_SEC))
        return lambda: self._world.step_clock(fault.target, 0)

    def _child_killed(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.kill_child(fault.target)
        return nothing

    def _dies_at(self, fault: Fault, chance: random.Random) -> Undo:
        """Whoever passes there within the step's time."""
        self._world.ends.armed(fault.target)
        failpoints.arm(self._world.failpoints, fault.target, f"kill@{chance.randint(1, 5)}")

        def undo() -> None:
            failpoints.disarm(self._world.failpoints, fault.target)
            self._world.ends.disarmed(fault.target)

        return undo

    # --- people and jobs ---

    def _quantity_raised(self, fault: Fault, chance: random.Random) -> Undo:
        change_quantity(self._campaign(chance), by=MORE_COUPONS, history=self._crowd.history)
        return nothing

    def _quantity_lowered(self, fault: Fault, chance: random.Random) -> Undo:
        change_quantity(self._campaign(chance), by=-LESS_COUPONS, history=self._crowd.history)
        return nothing

    def _lowered_while_audit_locked(self, fault: Fault, chance: random.Random) -> Undo:
        """Redis hears of a lower quantity first, and what PostgreSQL then has to write waits, and often in vain; a
        raise after it."""
        unlock, in_vain = self._table_locked(replace(fault, target=AUDIT), chance), chance.random() < 0.5

        def end() -> None:
            if in_vain:
                self._sql(END_WHO_WAIT, [AUDIT], url=self._own_url)
            unlock()

        timer = threading.Timer(chance.uniform(1, 10), end)
        timer.start()
        campaign = self._campaign(chance)
        change_quantity(campaign, by=-LESS_COUPONS, history=self._crowd.history)
        if campaign is not None:
            again = until(lambda: Campaign.objects.get(pk=campaign.pk))
            change_quantity(again, by=MORE_COUPONS, history=self._crowd.history)
        return timer.join

    def _admission_paused(self, fault: Fault, chance: random.Random) -> Undo:
        campaign = self._campaign(chance)
        if campaign is None:
            return nothing
        with suppress(OperatorError, PushDidNotArrive, RetryLater, *DATABASE_DOWN):
            pause_campaign(campaign_id=campaign.pk, actor="soak")
        return lambda: until(lambda: resumed(campaign.pk))

    def _retried(self, fault: Fault, chance: random.Random) -> Undo:
        self._world.manage("retry_failed_coupons")
        return nothing

    def _ticket_refused_twice(self, fault: Fault, chance: random.Random) -> Undo:
        ticket = RefusedTicket(
            user_id=f"refused-{time.time_ns()}",
            campaign_id=chance.choice(self._campaigns),
            run_sql=lambda statement: self._sql(statement, url=self._own_url),
        )
        ticket.refuse()
        try:
            if ticket.apply(chance.choice(self._world.addresses), API_KEY, self._crowd.history):
                ticket.send_again()
        finally:
            ticket.allow()
        ticket.retry()
        return nothing

    # --- helpers ---

    def _campaign(self, chance: random.Random) -> Campaign | None:
        connection.close()
        try:
            return Campaign.objects.get(pk=chance.choice(self._campaigns))
        except DATABASE_DOWN:
            return None  # the operator sees an error page and goes for a coffee

    @property
    def _own_url(self) -> str:
        """Of the soak's database; `url` is the server's own, from where it can be altered."""
        return self._url.rpartition("/")[0] + f"/{self._database}"

    def _sql(self, statement: str | sql.Composable, values: list[str] | None = None, *, url: str = "") -> None:
        """On the server itself, past every proxy. Raises psycopg2.Error when another fault has it."""
        server = psycopg2.connect(url or self._url, connect_timeout=3)
        server.autocommit = True
        with server.cursor() as cursor:
            cursor.execute(statement, values)
        server.close()
