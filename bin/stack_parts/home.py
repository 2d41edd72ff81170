"""A stack's folder: its stored state, and the settings file that other programs read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from couponsite.env_file import BadLine, read_env_file

from . import envfile, ports, settings
from .errors import StackError

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Home:
    """One stack: `.stack` in the checkout, or the folder named by STACK_HOME (relative to the checkout)."""

    root: Path

    @classmethod
    def current(cls) -> Home:
        return cls.named(os.environ.get("STACK_HOME", ".stack"))

    @classmethod
    def named(cls, folder: str) -> Home:
        """`folder` is relative to the checkout."""
        return cls(CHECKOUT / folder)

    @property
    def env_file(self) -> Path:
        return self.root / "env"

    @property
    def state_file(self) -> Path:
        return self.root / "stack.json"

    @property
    def kafka_jars(self) -> Path:
        """The folder of Kafka's jars, shared by all stacks of the checkout."""
        return CHECKOUT / ".stack" / "kafka-lib"

    def record_file(self, part: str) -> Path:
        return self.root / "run" / f"{part}.json"

    def log_file(self, part: str) -> Path:
        return self.root / "log" / f"{part}.log"

    def data(self, part: str) -> Path:
        return self.root / part

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Lets one command run at a time; the others wait. The kernel releases the lock if this process dies."""
        with _open_lock(self.root / "run" / f"{name}.lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def try_lock(self, name: str) -> Iterator[bool]:
        """Yields whether the lock was free; if so, holds it for the block."""
        with _open_lock(self.root / "run" / f"{name}.lock") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def state(self) -> State:
        """Loads the stored state, creates it at the first call, and updates the env file."""
        with self.lock("state"):
            return self._load_state()

    def move_port(self, name: str) -> int:
        """Chooses and stores another port for this name, when another program listens on the old one."""
        with self.lock("state"):
            state = self._load_state()
            state.ports[name] = choose_port(name, seed=str(self.root), taken=set(state.ports.values()))
            self._save_state(state)
            return state.ports[name]

    @property
    def parts(self) -> list[str]:
        """The servers of this stack; of one that was never started, the usual three."""
        brokers = self.state().brokers if self.state_file.exists() else 1
        return [part for part in settings.PARTS if part != "kafka"] + list(settings.BROKERS[:brokers])

    def set_brokers(self, brokers: int) -> None:
        with self.lock("state"):
            state = self._load_state()
            if state.brokers != brokers and self.data("kafka").exists():
                names = " ".join(settings.BROKERS[: state.brokers])
                raise StackError(
                    f"this stack's Kafka was made with another number of brokers ({state.brokers}); "
                    f"`bin/stack down`, `bin/stack wipe {names}`, then try again"
                )
            state.brokers = brokers
            self._save_state(state)

    def set_mode(self, mode: str) -> None:
        with self.lock("state"):
            state = self._load_state()
            state.mode = mode
            self._save_state(state)

    def _load_state(self) -> State:
        try:
            state = State(**json.loads(self.state_file.read_text()))
        except FileNotFoundError:
            state = State(mode="native", ports={}, secrets=new_secrets())
        # a new stack needs all ports; one of an older checkout needs those that were added since
        for name in [name for name in settings.PORT_RANGES if name not in state.ports]:
            state.ports[name] = choose_port(name, seed=str(self.root), taken=set(state.ports.values()))
        self._save_state(state)
        return state

    def _save_state(self, state: State) -> None:
        # an older checkout, which knows no number of brokers, goes on with the file of one
        document = {name: value for name, value in vars(state).items() if (name, value) != ("brokers", 1)}
        envfile.write_private(self.state_file, json.dumps(document, indent=1) + "\n")
        header = "# Written by bin/stack at each start: put changes into .env or the environment.\n"
        envfile.write_private(self.env_file, header + envfile.render(self.settings_of(state)))

    def settings_of(self, state: State) -> dict[str, str]:
        """The settings of a service that uses this stack."""
        port, secret, host = state.ports, state.secrets, ports.LOOPBACK
        user, database = settings.DATABASE_USER, settings.DATABASE
        brokers = settings.BROKERS[: state.brokers]
        replicated = {"COUPON_TOPIC_REPLICATION": "3", "COUPON_TOPIC_MIN_INSYNC_REPLICAS": "2"}
        return {
            "DATABASE_URL": f"postgres://{user}:{secret['postgres']}@{host}:{port['postgres']}/{database}",
            "REDIS_URL": f"redis://{host}:{port['redis']}/0",
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(f"{host}:{port[broker]}" for broker in brokers),
            **(replicated if state.brokers == 3 else {}),
            "DJANGO_SECRET_KEY": secret["django"],
            "DJANGO_DEBUG": "false",
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost,[::1]",
            "DJANGO_SUPERUSER_USERNAME": "admin",
            "DJANGO_SUPERUSER_PASSWORD": secret["admin"],
            "DJANGO_SUPERUSER_EMAIL": "admin@example.test",
            "WEB_PORT": str(port["web"]),
            "COUPON_API_KEYS": secret["api_key"],
            "COUPON_METRICS_DIR": str(self.root / "metrics"),
        }

    def effective_settings(self) -> dict[str, str]:
        """The settings as the service sees them: an environment variable wins, then `.env`, then this stack.

        `.env` applies only to the checkout's own stack, never to one that STACK_HOME names (the tests').
        """
        own = self.settings_of(self.state())
        dot_env = CHECKOUT / ".env"
        if self.root == CHECKOUT / ".stack" and dot_env.exists():
            try:
                own |= read_env_file(dot_env)
            except BadLine as error:
                raise StackError(str(error)) from None
        return {name: os.environ.get(name, value) for name, value in own.items()}

    def remove_data(self, part: str) -> None:
        """Removes the part's data, so that its next start begins empty."""
        if self.data(part).exists():
            shutil.rmtree(self.data(part))
        self.record_file(part).unlink(missing_ok=True)


@dataclass
class State:
    """The stored state of a stack."""

    mode: str
    """`native`, or `docker` when a container engine runs the servers."""
    ports: dict[str, int]
    secrets: dict[str, str]
    brokers: int = 1


def new_secrets() -> dict[str, str]:
    return {
        "postgres": secrets.token_hex(16),
        "django": secrets.token_urlsafe(50),
        "admin": secrets.token_urlsafe(12),
        "api_key": secrets.token_urlsafe(24),
    }


def choose_port(name: str, *, seed: str, taken: set[int]) -> int:
    first, count = settings.PORT_RANGES[name]
    return ports.choose(first=first, count=count, seed=seed, taken=taken)


@contextlib.contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)
