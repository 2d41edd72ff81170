"""The targets of the load: the product as operators start it, an older commit of it, a bare view, the blog's design."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import jwt
import urllib3
from django.conf import settings
from redis import Redis

from benchmarks import sandbox
from benchmarks.figures import median_ratio
from benchmarks.load import Endpoint, run_closed_loop
from benchmarks.workload import Run, delete_topic, spare_topic
from coupons.admission.scripts import admission_redis
from harness import CHECKOUT, HOST, Service, ServiceFailed, Services, answers_ok, cpu_sec, free_port, manage, pss_mib

READY_SEC = 30.0
CACHED_SEC = 120
CACHED_US = 10.0
"""Redis CPU time per refusal. A value below this means that the web server answers without Redis."""
WRONG_SHARE = 0.01
ISSUER, AUDIENCE, SECRET = "https://accounts.bench.test", "coupons", "of the benchmarks, which signs nothing else"
GOOD_SEC = 7_200
GRANIAN = "--interface wsgi --http 1 --no-ws --workers 2 --blocking-threads 64 --backlog 4096 --backpressure 4096"
"""granian's options for the references: like those of bin/web, except for the interface."""
EMPTY_DATABASE = 1
"""The number of the Redis database that the older commit uses."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint with a number of connections, and the measurements of each round."""

    service: Service
    endpoint: Endpoint
    connections: int = 64
    refuses: bool = False
    caches: bool = False
    rounds: list[dict[str, float]] = field(default_factory=list)

    def load(self, users: str, seconds: float) -> dict[str, float]:
        """Runs a closed loop. `per_sec` counts only the expected answers, winners or refusals; `wrong` is the share of
        the others."""
        web, redis = self._cpu_sec()
        found = run_closed_loop(self.endpoint, users=users, seconds=seconds, connections=self.connections)
        web_after, redis_after = self._cpu_sec()
        wrong = found.requests - found.refused if self.refuses else found.refused
        if not found.requests or found.broken or (self.refuses and wrong > found.requests * WRONG_SHARE):
            raise ServiceFailed(f"{self.endpoint.path}: {wrong} wrong answers, {found}\n{self.service.tail()}")
        return {
            "per_sec": (found.requests - wrong) / found.seconds,
            "wrong": wrong / found.requests,
            **found.waits,
            "web_cpu_us": (web_after - web) * 1e6 / found.requests,
            "redis_cpu_us": (redis_after - redis) * 1e6 / found.requests,
            "client_share": found.client_share,
        }

    def warm_up(self, users: str, seconds: float) -> None:
        """Sends load without measuring: a worker that is still importing gives no answers."""
        run_closed_loop(self.endpoint, users=users, seconds=seconds, connections=self.connections)

    def wait_until_cached(self) -> None:
        """Waits until the web server refuses from memory: it drops campaigns without requests from its cache, and first
        reads a campaign's winners."""
        for _ in range(CACHED_SEC if self.caches else 0):
            if self.load("cached-", 1)["redis_cpu_us"] < CACHED_US:
                return

    def with_connections(self, connections: int) -> "Target":
        """The same endpoint with another number of connections and no measurements."""
        return replace(self, connections=connections, rounds=[])

    def medians(self) -> dict[str, float]:
        return {figure: median(each[figure] for each in self.rounds) for figure in self.rounds[0]}

    def __str__(self) -> str:
        found = self.medians()
        return (
            f"{found['per_sec']:.0f}/s, p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms, wrong "
            f"{found['wrong']:.0%}, web CPU {found['web_cpu_us']:.0f} us, Redis {found['redis_cpu_us']:.0f} us, "
            f"client {found['client_share']:.0%} of a core"
        )

    def _cpu_sec(self) -> tuple[float, float]:
        redis: Any = admission_redis().info("cpu")
        return cpu_sec(self.service.process.pid), redis["used_cpu_sys"] + redis["used_cpu_user"]


@dataclass(frozen=True, slots=True)
class Product:
    """A web server with its consumer and keeper, a campaign that never sells out, and one that is sold out."""

    web: Service
    port: int
    endless: str
    sold_out: str

    def winners(self, campaign: object = "") -> Target:
        return Target(self.web, Endpoint(self.port, apply_path(campaign or self.endless), api_key()))

    def refusals(self, bearers: Sequence[str], campaign: object = "") -> Target:
        endpoint = Endpoint(self.port, apply_path(campaign or self.sold_out), bearers)
        return Target(self.web, endpoint, refuses=True, caches=True)

    def memory_mib(self) -> float:
        return pss_mib(self.web.process.pid)


@contextmanager
def started(run: Run, environment: Mapping[str, str] | None = None) -> Iterator[tuple[dict[str, Target], Product]]:
    """The references and the product, which end with the block."""
    with spare_topic() as topic, Services(log_folder=run.log_folder, environment=environment) as services:
        yield _start_references(services, topic), _start_product(services, "product")


@contextmanager
def older_product(run: Run, environment: Mapping[str, str]) -> Iterator[Product]:
    """Starts the product of another commit from git, with this checkout's `.venv` and stores of its own."""
    sandbox.create_database(run.server, sandbox.OLDER_DATABASE)
    redis_url = sandbox.with_path(settings.REDIS_URL, EMPTY_DATABASE)
    redis = Redis.from_url(redis_url)
    if redis.dbsize():
        raise ServiceFailed(f"Redis's database {EMPTY_DATABASE} is not empty: the older commit needs one of its own.")
    topic = f"{settings.TOPIC}_older"
    environment = {
        **environment,
        "DATABASE_URL": sandbox.with_path(os.environ["DATABASE_URL"], sandbox.OLDER_DATABASE),
        "REDIS_URL": redis_url,
        "COUPON_TOPIC": topic,
        "COUPON_CONSUMER_GROUP": topic,
        "COUPON_METRICS_DIR": "",
    }
    with TemporaryDirectory(prefix="bench-older-") as folder:
        checkout = Path(folder)
        archive = ["git", "-C", str(CHECKOUT), "archive", "--format=tar", run.older]
        packed = subprocess.run(archive, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        (checkout / ".venv").symlink_to(CHECKOUT / ".venv")
        try:
            with Services(log_folder=run.log_folder, environment=environment) as services:
                yield _start_product(services, "older", checkout)
        finally:
            redis.flushdb()
            delete_topic(topic)


def _start_product(services: Services, name: str, checkout: Path = CHECKOUT) -> Product:
    """Starts the product on an empty database. Its own commands create the tables and the topic."""
    run = partial(manage, checkout=checkout, environment=services.environment)
    run("migrate", "--verbosity", "0")
    run("create_topic")
    port = free_port()
    web, consumer = start_parts(services, f"bench-{name}", port, checkout=checkout)
    endless = run("create_campaign", "--name", "endless", "--quantity", "10000000", "--open")
    sold_out = run("create_campaign", "--name", "sold out", "--quantity", "1", "--open")
    apply_once(port, sold_out, "first")
    apply_once(port, endless, "first")
    consumer.check()
    return Product(web, port, endless, sold_out)


def start_parts(
    services: Services, name: str, port: int, *, checkout: Path = CHECKOUT, consumes: Sequence[str] = ()
) -> tuple[Service, Service]:
    """Starts consumer (with the arguments `consumes`), keeper and web server as operators do. Returns the web server,
    which is ready, and the consumer."""
    command = [sys.executable, str(checkout / "manage.py")]
    consumer = services.start(f"{name}-consumer", [*command, "run_coupon_consumer", *consumes], folder=checkout)
    services.start(f"{name}-keeper", [*command, "run_keeper"], folder=checkout)
    web = services.start(f"{name}-web", [str(checkout / "bin" / "web")], {"WEB_PORT": str(port)}, folder=checkout)
    ready = f"http://{HOST}:{port}/readyz"
    services.wait(f"{name}: /readyz", lambda: answers_ok(ready), deadline_sec=READY_SEC, service=web)
    return web, consumer


def _start_references(services: Services, topic: str) -> dict[str, Target]:
    """Starts one server for all references. `topic` is for the blog's messages, which no consumer reads."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "benchmarks.reference_server:application", *GRANIAN.split()]
    command += ["--host", HOST, "--port", str(port)]
    own = {"COUPON_TOPIC": topic, "DJANGO_SETTINGS_MODULE": "benchmarks.reference_settings"}
    service = services.start("bench-reference", command, own)
    ready = f"http://{HOST}:{port}/readyz"
    services.wait("The references", lambda: answers_ok(ready), deadline_sec=READY_SEC, service=service)

    def target(path: str, *, refuses: bool = False) -> Target:
        return Target(service, Endpoint(port, path, api_key()), refuses=refuses)

    return {
        "bare DRF": target("/bare/campaigns/1/apply"),
        "blog": target("/blog/campaigns/1000000000/apply"),
        "blog, sold out": target("/blog/campaigns/0/apply", refuses=True),
    }


def apply_once(port: int, campaign: object, user: str, bearer: str = "") -> int:
    """Sends one application and returns the status. Raises urllib3's errors."""
    headers = {"Authorization": f"Bearer {bearer or api_key()[0]}"}
    url = f"http://{HOST}:{port}{apply_path(campaign)}"
    return urllib3.request("POST", url, json={"user_id": user}, headers=headers, timeout=10, retries=False).status


def apply_path(campaign: object) -> str:
    return f"/api/v1/campaigns/{campaign}/apply"


def api_key() -> list[str]:
    """A service's API key as the only bearer."""
    return [settings.API_KEYS[0]]


def token_settings(folder: Path) -> dict[str, str]:
    """The settings of a web server that accepts the tokens of `tokens`."""
    (folder / "bench.HS256.secret").write_text(SECRET)
    return {"COUPON_JWT_KEYS_DIR": str(folder), "COUPON_JWT_ISSUER": ISSUER, "COUPON_JWT_AUDIENCE": AUDIENCE}


def tokens(count: int) -> list[str]:
    """Tokens of the users 1 to `count`."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + GOOD_SEC}
    return [
        jwt.encode({**claims, "sub": str(user)}, SECRET, algorithm="HS256", headers={"kid": "bench"})
        for user in range(1, count + 1)
    ]


def ratio(mine: Target, others: Target) -> float:
    """The median of the rounds' ratios."""
    return median_ratio([each["per_sec"] for each in mine.rounds], [each["per_sec"] for each in others.rounds])


def run_rounds(targets: Mapping[str, Target], *, rounds: int, seconds: float) -> None:
    """Runs slices of load on all targets in turn, so that other load on the machine affects all alike.

    Each round begins with another target. The first round only warms up.
    """
    names = list(targets)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            users = f"{name}-{number}-".replace(" ", "-").replace(",", "")
            targets[name].wait_until_cached()
            if number:
                targets[name].rounds.append(targets[name].load(users, seconds))
            else:
                targets[name].warm_up(users, seconds)
