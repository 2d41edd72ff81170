"""A run of the service with secrets of its own, each known, and every output noted."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from django.conf import settings
from django.db import connection

from coupons.models import Campaign
from harness import free_port
from tests.support.issuer import AUDIENCE, ISSUER, SECRET, Issuer
from tests.support.process import ROOT, Process
from tests.support.secrets import Secrets
from tests.support.service import Service
from tests.support.waiting import wait_until

CLOSED = "127.0.0.1:1"
REDIS_USER = "leaktest"
CODE_KEY = "codekey-0f1e2d3c4b5a69788796a5b4c3d2e1f0"
NEW_KEY, OLD_KEY = "messagekey-new-00112233445566778899aabb", "messagekey-old-00112233445566778899aabb"


class SecretRun:
    """`environment` is for the processes; `request` and `command` note what they hear."""

    timeouts = {
        "COUPON_DELIVERY_TIMEOUT_MS": "1000",
        "COUPON_REDIS_SOCKET_TIMEOUT_MS": "200",
    }

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.secrets = Secrets()
        issuer = Issuer(folder)
        issuer.add("shared", "HS256")
        add = self.secrets.add
        add("JWT secret", SECRET)
        self.token = add("a user's token", issuer.token("anna"))
        add("a token's signature", self.token.rpartition(".")[2])
        self.api_key = add("COUPON_API_KEYS", "apikey-5f0c1e9b7a3d42c8")
        self.wrong_key = add("a wrong API key", "wrongkey-77aa00bb11cc22dd")
        self.redis_password = add("Redis password", "redispw-90b1c2d3e4f5a6b7")
        self.admin_password = add("an operator's password", "adminpw-3c2b1a0f9e8d7c6b")
        add("database password", connection.settings_dict["PASSWORD"])
        add("message key new", NEW_KEY)
        add("message key old", OLD_KEY)
        sasl = add("sasl.password", "saslpw-4d5e6f7081920a1b")
        self.environment = {
            "DJANGO_SECRET_KEY": add("DJANGO_SECRET_KEY", "djangokey-0a1b2c3d4e5f60718293a4b5c6d7e8f90123456"),
            "DJANGO_SECRET_KEY_FALLBACKS": add("a former secret", "formerkey-5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7081"),
            "COUPON_API_KEYS": self.api_key,
            "COUPON_CODE_KEYS": f"codes={add('code key', CODE_KEY)}",
            "COUPON_MESSAGE_KEYS": f"new={NEW_KEY};old={OLD_KEY}",
            "COUPON_KAFKA_CLIENT_CONFIG": f"sasl.mechanism=PLAIN;sasl.username=coupons;sasl.password={sasl}",
            "REDIS_URL": redis_url(self.redis_password),
            "COUPON_JWT_KEYS_DIR": str(folder),
            "COUPON_JWT_ISSUER": ISSUER,
            "COUPON_JWT_AUDIENCE": AUDIENCE,
            "COUPON_LOG_LEVEL": "DEBUG",
            "COUPON_WEB_WORKERS": "1",
        }

    def request(
        self,
        method: str,
        path: str,
        bearer: str = "",
        *,
        headers: dict[str, str] | None = None,
        but: str = "",
        **more: Any,
    ) -> urllib3.BaseHTTPResponse:
        # An answer that does not need the body (415) may come before it, and then the server ends the connection.
        own = {"Connection": "close"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        url = f"{self.service.url}{path}"
        answer = urllib3.request(method, url, headers=own | (headers or {}), retries=False, redirect=False, **more)
        # a path may hold a secret, which is the client's own doing
        self.secrets.note(f"the answer to {method} {urlsplit(path).path}", answer.data, dict(answer.headers), but=but)
        return answer

    def apply(self, campaign: Campaign, user_id: str, bearer: str) -> urllib3.BaseHTTPResponse:
        return self.request("POST", f"/api/v1/campaigns/{campaign.pk}/apply", bearer, json={"user_id": user_id})

    def log_in(self, name: str) -> dict[str, str]:
        """The headers of a browser in which this operator has logged in, over HTTP."""
        page = self.request("GET", "/admin/login/")
        token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.data.decode())[0]
        cookie = page.headers["Set-Cookie"].partition(";")[0]
        form = {"csrfmiddlewaretoken": token, "username": name, "password": self.admin_password, "next": "/admin/"}
        wrong = form | {"password": self.wrong_key}
        headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
        assert self.request("POST", "/admin/login/", headers=headers, body=urlencode(wrong)).status == 200
        answer = self.request("POST", "/admin/login/", headers=headers, body=urlencode(form))
        assert answer.status == 302, answer.data
        return {"Cookie": "; ".join(each.partition(";")[0] for each in answer.headers.getlist("Set-Cookie"))}

    def command(self, *arguments: str, but: str = "", **more: str) -> Process:
        process = self.service.run(*arguments, **{**self.environment, **more})
        self.note_process(process, but=but)
        return process

    def note_process(self, process: Process, *, but: str = "") -> None:
        self.secrets.note(f"the output of {process.name}", process.output, but=but)

    def web_without_servers(self, **more: str) -> Process:
        """A web server that finds nobody at the addresses it was given; it is `service.url` from then on."""
        port = free_port()
        self.service.url = f"http://127.0.0.1:{port}"
        down = {
            "DATABASE_URL": database_url(connection.settings_dict["PASSWORD"], at=CLOSED),
            "REDIS_URL": redis_url(self.redis_password, at=CLOSED),
            "KAFKA_BOOTSTRAP_SERVERS": CLOSED,
            "WEB_PORT": str(port),
        }
        web = self.service.start("web", [str(ROOT / "bin" / "web")], **(self.environment | self.timeouts | down | more))
        wait_until(self._is_alive, within_sec=40, what=lambda: f"web answers:\n{web.output}")
        return web

    def _is_alive(self) -> bool:
        try:
            return urllib3.request("GET", f"{self.service.url}/healthz", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False


def database_url(password: str, *, at: str = "") -> str:
    """The test's database; while pytest collects it has its usual name still, so the name is a test's by hand."""
    database = connection.settings_dict
    name = str(database["NAME"])
    name = name if name.startswith("test_") else f"test_{name}"
    at = at or f"{database['HOST']}:{database['PORT']}"
    return f"postgres://{quote(database['USER'])}:{quote(password, safe='{}')}@{at}/{name}"


def redis_url(password: str, *, at: str = "") -> str:
    """The test's Redis, as a user with a password."""
    parts = urlsplit(settings.REDIS_URL)
    return f"redis://{REDIS_USER}:{password}@{at or parts.netloc}{parts.path}"
