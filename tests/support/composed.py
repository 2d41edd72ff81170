"""The product as `docker compose up` runs it, with the settings of .env.example filled in."""

import json
import re

from tests.support.engine import Engine, until_it_works
from tests.support.process import ROOT

API_KEY = "key-0123456789abcdef0123456789abcdef"
FILLED_IN = {
    "DJANGO_SECRET_KEY": "abcdefghijklmnopqrstuvwxyz0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "COUPON_API_KEYS": API_KEY,
    "POSTGRES_PASSWORD": "pg4tests",
    "REDIS_PASSWORD": "redis4tests",
}
HOST = "coupons.example.test"
NOT_NAMED = {"COUPON_TOPIC_PARTITIONS": "5", "COUPON_LOG_LEVEL": "DEBUG"}
"""Settings that the compose file does not name."""


class Product:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        (engine.project / ".env").write_text(_filled_in((ROOT / ".env.example").read_text()))
        self.built = self.compose("--progress", "plain", "build")
        self.up()
        self.campaign = self.manage("create_campaign", "--name", "Winter", "--quantity", "100", "--open").strip()

    def up(self) -> None:
        self.compose("up", "--detach", "--wait", "--no-build")

    def compose(self, *words: str) -> str:
        """Returns what it said, on standard output and then on standard error."""
        done = self.engine.run("docker", "compose", *words, check=False, within_sec=600)
        said = done.stdout + done.stderr
        if done.returncode != 0:
            raise AssertionError(f"docker compose {' '.join(words)}\n{said[-3_000:]}\n{self._state()}")
        return said

    def inside(self, service: str, *command: str) -> str:
        return self.engine.run("docker", "compose", "exec", "-T", service, *command).stdout

    def manage(self, *words: str) -> str:
        return self.inside("web", "python", "manage.py", *words)

    def inspect(self, service: str, template: str) -> str:
        (container,) = self.engine.run("docker", "compose", "ps", "--all", "--quiet", service).stdout.split()
        return self.engine.run("docker", "inspect", "--format", template, container).stdout.strip()

    def get_coupon(self, user: str) -> None:
        """Applies, again and again while a part is away, and waits for the coupon."""
        until_it_works(lambda: "sequence" in self._ask("POST", "apply", {"user_id": user}), what=f"{user} is admitted")
        until_it_works(lambda: self.is_issued(user), what=f"{user} has the coupon")

    def is_issued(self, user: str) -> bool:
        return self._ask("GET", f"tickets/{user}").get("status") == "issued"

    def ledger_closes(self) -> bool:
        done = self.engine.run(
            "docker", "compose", "exec", "-T", "web", "python", "manage.py", "reconcile_campaigns", check=False
        )
        return done.returncode == 0

    def _ask(self, method: str, what: str, body: dict[str, str] | None = None) -> dict[str, object]:
        headers = [f"Host: {HOST}", f"Authorization: Bearer {API_KEY}", "Content-Type: application/json"]
        words = ["-X", method, *(word for header in headers for word in ("-H", header))]
        words += ["-d", json.dumps(body)] if body else []
        done = self.engine.curl(*words, f"http://127.0.0.1:8000/api/v1/campaigns/{self.campaign}/{what}")
        try:
            answer = json.loads(done.stdout)
        except ValueError:  # no answer at all
            return {}
        assert isinstance(answer, dict)
        return answer

    def _state(self) -> str:
        said = [self.engine.run("docker", "compose", *words, check=False) for words in (["ps", "-a"], ["logs", "-n8"])]
        return "".join(done.stdout[-6_000:] for done in said)


def _filled_in(example: str) -> str:
    for name, value in FILLED_IN.items():
        example, count = re.subn(rf"^#?{name}=.*$", f"{name}={value}", example, flags=re.MULTILINE)
        assert count == 1, f".env.example has no line for {name}"
    return example + "".join(f"{name}={value}\n" for name, value in NOT_NAMED.items())
