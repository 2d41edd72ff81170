"""The targets of the load: the product as operators start it, an older commit of it, a bare view, the blog's design."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import jwt
import psycopg2.extensions
import urllib3
from django.conf import settings
from redis import Redis

from benchmarks import sandbox
from benchmarks.load import Endpoint, run_closed_loop
from coupons.admission.scripts import admission_redis
from harness import CHECKOUT, HOST, Service, ServiceFailed, Services, answers_ok, cpu_sec, free_port, pss_mib

READY_SEC = 30.0
CACHED_SEC = 120.0
CACHED_US = 10.0
"""Redis CPU time per refusal. A value below this means that the web server answers without Redis."""
WRONG_SHARE = 0.01
ISSUER, AUDIENCE, SECRET = "https://accounts.bench.test", "coupons", "of the benchmarks, which signs nothing else"
GOOD_SEC = 7_200
GRANIAN = "--interface wsgi --http 1 --no-ws --workers 2 --blocking-threads 64 --backlog 4096 --backpressure 4096"
"""granian's options for the references: like those of bin/web, except for the interface."""
EMPTY_DATABASE = 1
"""The number of the Redis database that the older commit uses."""


class Target:
    """An endpoint with a number of connections, and the measurements of each round."""

    def __init__(
        self,
        service: Service,
        endpoint: Endpoint,
        *,
        connections: int = 64,
        refuses: bool = False,
        caches: bool = False,
    ) -> None:
        self.service, self.endpoint, self.connections = service, endpoint, connections
        self._refuses, self._caches = refuses, caches
        self.rounds: list[dict[str, float]] = []

    def load(self, users: str, seconds: float) -> dict[str, float]:
        """Runs a closed loop. `per_sec` counts only the expected answers, winners or refusals; `wrong` is the share of
        the others."""
        web, redis = self._cpu()
        found = run_closed_loop(self.endpoint, users=users, seconds=seconds, connections=self.connections)
        web, redis = self._cpu()[0] - web, self._cpu()[1] - redis
        wrong = found.requests - found.refused if self._refuses else found.refused
        if not found.requests or found.broken or (self._refuses and wrong > found.requests * WRONG_SHARE):
            raise ServiceFailed(f"{self.endpoint.path}: {wrong} wrong answers, {found}\n{self.service.tail()}")
        self.rounds.append(
            {
                "per_sec": (found.requests - wrong) / found.seconds,
                "wrong": wrong / found.requests,
                **found.waits,
                "web_cpu_us": web * 1e6 / found.requests,
                "redis_cpu_us": redis * 1e6 / found.requests,
                "client_share": found.client_share,
            }
        )
        return self.rounds[-1]

    def warm_up(self, users: str, seconds: float) -> None:
        """Sends load without measuring: a worker that is still importing gives no answers."""
        run_closed_loop(self.endpoint, users=users, seconds=seconds, connections=self.connections)

    def wait_until_cached(self, *, seconds: float = CACHED_SEC) -> None:
        """Waits until the web server refuses from memory: it drops campaigns without requests from its cache, and first
        reads a campaign's winners."""
        measured = len(self.rounds)
        if not self._caches:
            return
        for _ in range(int(seconds)):
            if self.load("cached-", 1)["redis_cpu_us"] < CACHED_US:
                break
        del self.rounds[measured:]

    def with_connections(self, connections: int) -> "Target":
        """The same endpoint with another number of connections and no measurements."""
        return Target(self.service, self.endpoint, connections=connections, refuses=self._refuses, caches=self._caches)

    def median(self, figure: str) -> float:
        return median(each[figure] for each in self.rounds)

    def medians(self) -> dict[str, float]:
        return {figure: self.median(figure) for figure in self.rounds[0]}

    def __str__(self) -> str:
        found = self.medians()
        return (
            f"{found['per_sec']:.0f}/s, p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms, wrong "
            f"{found['wrong']:.0%}, web CPU {found['web_cpu_us']:.0f} us, Redis {found['redis_cpu_us']:.0f} us, "
            f"client {found['client_share']:.0%} of a core"
        )

    def _cpu(self) -> tuple[float, float]:
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
        return Target(
            self.web, Endpoint(self.port, apply_path(campaign or self.sold_out), bearers), refuses=True, caches=True
        )

    def memory_mib(self) -> float:
        return pss_mib(self.web.process.pid)


def start_product(
    services: Services,
    name: str = "product",
    *,
    checkout: Path = CHECKOUT,
    environment: Mapping[str, str] | None = None,
) -> Product:
    """Starts the product on an empty database. Its own commands create the tables and the topic."""
    own = dict(environment or {})
    manage = [sys.executable, str(checkout / "manage.py")]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*manage, *arguments], cwd=checkout, env={**os.environ, **own}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ServiceFailed(f"{name}: manage.py {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    run("migrate", "--verbosity", "0")
    run("create_topic")
    port = free_port()
    consumer = services.start(f"bench-{name}-consumer", [*manage, "run_coupon_consumer"], own, folder=checkout)
    services.start(f"bench-{name}-keeper", [*manage, "run_keeper"], own, folder=checkout)
    command = [str(checkout / "bin" / "web")]
    web = services.start(f"bench-{name}-web", command, {**own, "WEB_PORT": str(port)}, folder=checkout)
    ready = f"http://{HOST}:{port}/readyz"
    services.wait(f"{name}: /readyz", lambda: answers_ok(ready), deadline_sec=READY_SEC, service=web)
    endless = run("create_campaign", "--name", "endless", "--quantity", "10000000", "--open")
    sold_out = run("create_campaign", "--name", "sold out", "--quantity", "1", "--open")
    apply_once(port, sold_out, "first")
    apply_once(port, endless, "first")
    consumer.check()
    return Product(web, port, endless, sold_out)


@contextmanager
def older_product(services: Services, server: psycopg2.extensions.connection, commit: str) -> Iterator[Product]:
    """Starts the product of another commit from git, with this checkout's `.venv` and stores of its own."""
    sandbox.create_database(server, sandbox.OLDER_DATABASE)
    redis_url = urlunsplit(urlsplit(settings.REDIS_URL)._replace(path=f"/{EMPTY_DATABASE}"))
    redis = Redis.from_url(redis_url)
    if redis.dbsize():
        raise ServiceFailed(f"Redis's database {EMPTY_DATABASE} is not empty: the older commit needs one of its own.")
    with TemporaryDirectory(prefix="bench-older-") as folder:
        checkout = Path(folder)
        packed = checkout / "packed.tar"
        subprocess.run(["git", "-C", str(CHECKOUT), "archive", f"--output={packed}", commit], check=True)
        subprocess.run(["tar", "-xf", str(packed), "-C", folder], check=True)
        (checkout / ".venv").symlink_to(CHECKOUT / ".venv")
        topic = f"{settings.TOPIC}_older"
        environment = {
            "DATABASE_URL": urlunsplit(
                urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{sandbox.OLDER_DATABASE}")
            ),
            "REDIS_URL": redis_url,
            "COUPON_TOPIC": topic,
            "COUPON_CONSUMER_GROUP": topic,
            "COUPON_METRICS_DIR": "",
        }
        try:
            yield start_product(services, "older", checkout=checkout, environment=environment)
        finally:
            redis.flushdb()
            sandbox.delete_topic(topic)


def start_references(services: Services, topic: str) -> dict[str, Target]:
    """Starts one server for all references. `topic` is for the blog's messages, which no consumer reads."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "benchmarks.reference:application", "--host", HOST, "--port", str(port)]
    own = {"COUPON_TOPIC": topic, "DJANGO_SETTINGS_MODULE": "benchmarks.reference_settings"}
    service = services.start("bench-reference", [*command, *GRANIAN.split()], own)
    services.wait("The references", lambda: _answers(port), deadline_sec=READY_SEC, service=service)

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


def _answers(port: int) -> bool:
    try:
        return apply_once(port, 0, "first") > 0
    except urllib3.exceptions.HTTPError:
        return False


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


def ratio(mine: Target, others: Target, figure: str = "per_sec") -> float:
    """The median of the rounds' ratios."""
    pairs = zip(mine.rounds, others.rounds, strict=True)
    return median(one[figure] / other[figure] for one, other in pairs)


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
            load = targets[name].load if number else targets[name].warm_up
            load(users, seconds)
