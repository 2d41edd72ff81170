"""A browser to click with: Debian's chromium, driven by chromedriver over the W3C WebDriver protocol.

https://www.w3.org/TR/webdriver2/ is a few JSON requests; the tests need a dozen of them, so no package is needed.
"""

import base64
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import urllib3
from django.contrib.auth.models import User

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's key of an element's id
_FLAGS = [
    "--headless",
    "--no-sandbox",  # chromium refuses to run as root with it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,1000",
]


class Browser:
    """One session. Elements are found by CSS selector, the first one is taken.

    What leads to another page is `submit`, `double_click`, `press_enter`, `back`, `reload` or `open`: each returns when
    the page before is gone, so that nothing is typed into it.
    """

    def __init__(self, port: int, profile: str) -> None:
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(60), retries=False)
        self._url = f"http://127.0.0.1:{port}/session"
        options = {"args": [*_FLAGS, f"--user-data-dir={profile}"]}
        always = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"implicit": 10_000},
        }
        session = self._call("POST", "", {"capabilities": {"alwaysMatch": always}})
        self._url += f"/{session['sessionId']}"

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    @property
    def address(self) -> str:
        return str(self._call("GET", "/url"))

    def text(self, selector: str = "body") -> str:
        """What a person reads there, after the browser's rendering."""
        return str(self._call("GET", f"/element/{self._find(selector)}/text"))

    def count(self, selector: str) -> int:
        return int(self.evaluate(f"document.querySelectorAll({selector!r}).length"))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self._call("POST", "/execute/sync", {"script": f"return {expression}", "args": []})

    def click(self, selector: str) -> None:
        """For what stays on the page."""
        self._call("POST", f"/element/{self._find(selector)}/click", {})

    def submit(self, selector: str) -> None:
        """Clicks a button or link that leads to another page."""
        with self._leaving():
            self.click(selector)

    def double_click(self, selector: str) -> None:
        element = {_ELEMENT: self._find(selector)}
        move = {"type": "pointerMove", "origin": element, "x": 0, "y": 0}
        click = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "actions": [move, *click, *click]}
        with self._leaving():
            self._call("POST", "/actions", {"actions": [mouse]})

    def press_enter(self, selector: str) -> None:
        """Sends the form of a field; in a text area it is one more line."""
        in_a_line = not self.evaluate(f"document.querySelector({selector!r}).matches('textarea')")
        with self._leaving() if in_a_line else nullcontext():
            self._call("POST", f"/element/{self._find(selector)}/value", {"text": "\ue007"})

    def back(self) -> None:
        with self._leaving():
            self._call("POST", "/back", {})

    def reload(self) -> None:
        """F5; sends a form again without a question."""
        with self._leaving():
            self._call("POST", "/refresh", {})

    def type_into(self, selector: str, text: str) -> None:
        element = self._find(selector)
        self._call("POST", f"/element/{element}/clear", {})
        self._call("POST", f"/element/{element}/value", {"text": text})

    def console(self) -> list[str]:
        """The errors there since the last call; chromium's own addition to the protocol."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def close(self) -> None:
        self._call("DELETE", "")

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """Waits for the end of the page that is shown at the beginning."""
        page = self._find("html")
        yield
        deadline = time.monotonic() + 10
        while self._pool.request("GET", f"{self._url}/element/{page}/name").status == 200:
            assert time.monotonic() < deadline, "the page was not left within 10 s"
            time.sleep(0.01)

    def _find(self, selector: str) -> str:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._pool.request(method, f"{self._url}{path}", json=body)
        value = answer.json()["value"]
        assert answer.status == 200, f"{method} {path}: {value['error']}: {value['message']}"
        return value


@contextmanager
def browser() -> Iterator[Browser]:
    """A fresh chromium with an empty profile, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            opened = Browser(_port(driver), profile)
            try:
                yield opened
            finally:
                opened.close()
        finally:
            driver.terminate()
            driver.wait(10)
            if driver.stdout is not None:
                driver.stdout.close()


def log_in(page: Browser, url: str) -> None:
    """As a superuser, made for it."""
    User.objects.create_superuser("admin", password="correct horse")
    page.open(f"{url}/admin/")
    page.type_into("#id_username", "admin")
    page.type_into("#id_password", "correct horse")
    page.submit("input[type=submit]")
    page.text("#user-tools")


def _port(driver: subprocess.Popen[str]) -> int:
    """The port that chromedriver took, from the line that says so."""
    assert driver.stdout is not None
    for line in driver.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            return int(found[1])
    raise AssertionError("chromedriver ended before it listened")
