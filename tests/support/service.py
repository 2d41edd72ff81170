"""The service around one test: real processes (web, consumer, keeper), and its servers to stop and start."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote
from uuid import UUID

import urllib3
from confluent_kafka import Producer
from django.conf import LazySettings
from django.db import connection
from stack_parts.cli import main as bin_stack

from coupons.campaigns.lifecycle import create_campaign, open_campaign
from coupons.management.command import EXIT_UNAVAILABLE
from coupons.messaging import topics
from coupons.messaging.kafka import client_config
from coupons.messaging.producer import publishers
from coupons.messaging.signing import sign
from coupons.models import Campaign
from faults.crowd import Crowd
from faults.visits import Habits
from harness import free_port
from tests.support.injection import Injection
from tests.support.own_topic import delete_topic, keep_topic
from tests.support.process import ROOT, Process
from tests.support.timeouts import RELAY_SOON, OwnTimeouts
from tests.support.waiting import STEP_SEC, wait_until

PYTHON = sys.executable
API_KEY = "test-key"
TRIES = 3
HEADERS = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}


class Service(Injection):
    """`web()`, `consumer()`, `keeper()` start processes against the test's database, topic and group."""

    def __init__(self, settings: LazySettings) -> None:
        super().__init__()
        self._settings = settings
        self.timeouts = OwnTimeouts(settings)
        self.topic = str(settings.TOPIC)
        self._processes: list[Process] = []
        self._stopped: set[str] = set()
        self._disturbed: set[str] = set()
        self._pool = urllib3.PoolManager(maxsize=64, timeout=urllib3.Timeout(10), retries=False)
        self.url = ""
        self.headers = dict(HEADERS)  # of `post_json` and `get_json`
        self.addresses: list[str] = []  # of every web server that was started; one may be down
        self._crowds: list[Crowd] = []

    # --- processes ---

    @property
    def environment(self) -> dict[str, str]:
        database = connection.settings_dict
        user, password = quote(database["USER"]), quote(database["PASSWORD"])
        own = {
            **os.environ,
            "DATABASE_URL": f"postgres://{user}:{password}@{database['HOST']}:{database['PORT']}/{database['NAME']}",
            "COUPON_API_KEYS": API_KEY,
            "COUPON_TOPIC": self._settings.TOPIC,
            "COUPON_TOPIC_PARTITIONS": str(self._settings.TOPIC_PARTITIONS),
            "COUPON_CONSUMER_GROUP": self._settings.CONSUMER_GROUP,
            "COUPON_METRICS_DIR": "",
        }
        return self.through_proxies(own)

    def start(self, name: str, command: Sequence[str], **more: str) -> Process:
        process = Process(name, command, {**self.environment, **more})
        self._processes.append(process)
        return process

    def manage(self, *arguments: str, **more: str) -> Process:
        return self.start(arguments[0], [PYTHON, "manage.py", *arguments], **more)

    def consumer(self, *arguments: str, **more: str) -> Process:
        """A consumer that has its partitions."""
        process = self.manage("run_coupon_consumer", *arguments, **more)
        process.says("consumer.assigned")
        return process

    def keeper(self, **more: str) -> Process:
        process = self.manage("run_keeper", "--interval-ms", "300", **more)
        process.says("keeper: one round")
        return process

    def run(self, *arguments: str, **more: str) -> Process:
        """A manage.py command that has ended; typed again, as a person would, if a part did not answer in time."""
        for _ in range(TRIES):
            process = self.manage(*arguments, **more)
            if process.wait() != EXIT_UNAVAILABLE or self._stopped:
                break
        return process

    def everything(self, *arguments: str, **more: str) -> tuple[Process, Process, Process]:
        """Web servers (the front's is returned), consumer and keeper, which start side by side.

        `arguments` are the consumer's, --solo if there are none; `more` are variables for each of them.
        """
        more = {**RELAY_SOON, **more}
        consumer = self.manage("run_coupon_consumer", *(arguments or ["--solo"]), **more)
        keeper = self.manage("run_keeper", "--interval-ms", "300", **more)
        web, _ = self.webs(**more)
        consumer.says("consumer.assigned")
        keeper.says("keeper: one round")
        return web, consumer, keeper

    def kill(self, pid: int) -> None:
        """SIGKILL to one of `left_over()`: a worker whose parent is one of our processes."""
        assert pid in self.left_over()
        os.kill(pid, signal.SIGKILL)

    def left_over(self) -> dict[int, str]:
        """Every process that runs with this test's topic in its environment: pid -> command line."""
        mark = f"COUPON_TOPIC={self.topic}".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:  # it has ended, or is somebody else's
                continue
        return {pid: words for pid, words in found.items() if words}  # a zombie has none

    def web(self, **more: str) -> Process:
        """A web server that admits, with one worker unless told otherwise; its address is `url` from then on."""
        process = self.web_that_starts(**more)
        self._wait_for_web(process, self.url, workers=int(more.get("COUPON_WEB_WORKERS", "1")))
        return process

    def webs(self, **more: str) -> tuple[Process, Process]:
        """Two of them, so that one fault meets both ways: applications are answered by the front, and by the view."""
        view = self.web_that_starts(COUPON_FRONT="false", **more)
        front = self.web_that_starts(COUPON_FRONT="true", **more)
        for process, url in zip((view, front), self.addresses[-2:], strict=True):
            self._wait_for_web(process, url, workers=int(more.get("COUPON_WEB_WORKERS", "1")))
        return front, view

    def web_that_starts(self, **more: str) -> Process:
        """Nobody waits for it, as not all of its servers may be up."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.addresses.append(self.url)
        return self.start("web", [str(ROOT / "bin" / "web")], WEB_PORT=str(port), **{"COUPON_WEB_WORKERS": "1", **more})

    def _wait_for_web(self, process: Process, url: str, *, workers: int) -> None:
        wait_until(lambda: self._is_ready(url) or process.exit_code is not None, within_sec=40, what="web is ready")
        assert process.exit_code is None, process.output
        for number in range(1, workers + 1):
            process.says(f"Started worker-{number}")  # one that answers is not yet all of them

    def _is_ready(self, url: str) -> bool:
        try:
            parts = self._pool.request("GET", f"{url}/readyz").json()["parts"]
            return bool(parts["redis"] == parts["kafka"] == "ok")  # the test's campaigns may be stale
        except (urllib3.exceptions.HTTPError, ValueError, KeyError):
            return False

    # --- HTTP ---

    def apply(self, campaign: Campaign, user_id: str) -> urllib3.BaseHTTPResponse:
        url = f"{self.url}/api/v1/campaigns/{campaign.pk}/apply"
        return self._pool.request("POST", url, json={"user_id": user_id}, headers=HEADERS)

    def ticket(self, campaign: Campaign, user_id: str) -> urllib3.BaseHTTPResponse:
        url = f"{self.url}/api/v1/campaigns/{campaign.pk}/tickets/{quote(user_id, safe='')}"
        return self._pool.request("GET", url, headers=HEADERS)

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        return self._pool.request("GET", f"{self.url}{path}")

    def post(self, path: str) -> urllib3.BaseHTTPResponse:
        return self._pool.request("POST", f"{self.url}/api/v1/{path}", headers=HEADERS)

    def post_json(self, path: str, body: object) -> urllib3.BaseHTTPResponse:
        return self._pool.request("POST", f"{self.url}/api/v1/{path}", json=body, headers=self.headers)

    def get_json(self, path: str) -> urllib3.BaseHTTPResponse:
        return self._pool.request("GET", f"{self.url}/api/v1/{path}", headers=self.headers)

    def patch(self, path: str, body: object) -> urllib3.BaseHTTPResponse:
        return self._pool.request("PATCH", f"{self.url}/api/v1/{path}", json=body, headers=HEADERS)

    def crowd(
        self, *campaigns: Campaign, addresses: Sequence[str] | None = None, habits: Habits | None = None
    ) -> Crowd:
        """Users who apply from now on, to all web servers of this test; end it with `assert_history_holds`."""
        crowd = Crowd(
            addresses=addresses or self.addresses,
            campaign_ids=[campaign.pk for campaign in campaigns],
            api_key=API_KEY,
            habits=habits,
            name=f"c{len(self._crowds)}-",
        )
        self._crowds.append(crowd)
        return crowd.start()

    # --- servers ---

    def stack(self, verb: str, part: str, **more: str) -> None:
        """bin/stack stop, start, kill, pause, resume or wipe; the close of the test starts what is down.

        `more` are variables for a server that is started.
        """
        self._disturbed.add(part)
        if verb in ("stop", "kill", "pause"):
            self._stopped.add(part)
            self.timeouts.restore(part)
        with patch.dict(os.environ, more):
            assert bin_stack([verb, part]) == 0, f"bin/stack {verb} {part}"
        if verb in ("start", "resume"):
            self._stopped.discard(part)
            if not self._stopped:
                self.timeouts.lengthen()
        if part == "postgres" and verb == "start":
            connection.close()  # this process's own is broken

    # --- data ---

    def campaign(self, quantity: int = 10, *, opened: bool = True, **values: Any) -> Campaign:
        campaign = create_campaign(name="test", quantity=quantity, actor="test", **values)
        return open_campaign(campaign_id=campaign.pk, actor="test") if opened else campaign

    def produce(self, *payloads: bytes, key: str = "k", signed: bool = True) -> None:
        """Put raw messages into the topic, as one of our own processes could, or with `signed=False` anybody else."""
        producer = Producer(client_config())
        for payload in payloads:
            producer.produce(self._settings.TOPIC, payload, key=key, headers=sign(payload) if signed else [])
        assert producer.flush(10) == 0

    def close(self) -> None:
        """Goes through all of it, whatever fails: what stays would be the next test's."""
        with ExitStack() as closing:
            closing.callback(self._close_processes_and_topic)
            closing.callback(self._start_what_is_down)
            for crowd in self._crowds:
                closing.callback(crowd.close)
            closing.callback(self.close_injection)

    def _start_what_is_down(self) -> None:
        for part in list(self._stopped):
            self.stack("start", part)  # resumes a paused one
        if "kafka" in self._disturbed:
            # This process's own clients: one that has lost its brokers notices after two seconds, in the next test.
            publishers.reset()
            topics.administrator.reset()

    def _close_processes_and_topic(self) -> None:
        for process in self._processes:
            process.ask_to_end()
        for process in self._processes:
            process.close()
        hanging = self._end_left_over() if self._processes else {}
        self.remove_injection()
        if self._processes or "kafka" in self._disturbed or not keep_topic(self._settings, self.topic):
            delete_topic(self.topic)
        assert not hanging, f"did not end when asked to, nor when their parent did: {hanging}"

    def _end_left_over(self) -> dict[int, str]:
        """Workers notice in half a second that their parent is gone; what has not ended by now hangs."""
        deadline = time.monotonic() + 8
        while (left := self.left_over()) and time.monotonic() < deadline:
            time.sleep(STEP_SEC)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left


def message(campaign_id: UUID | str, user_id: str, sequence: int, **more: Any) -> bytes:
    """A message as the web process would publish it."""
    fields = {
        "v": 1,
        "campaign_id": str(campaign_id),
        "user_id": user_id,
        "sequence": sequence,
        "admitted_at": "2026-11-22T10:00:00.000+00:00",
        "trace": "test",
    }
    return json.dumps(fields | more).encode()
