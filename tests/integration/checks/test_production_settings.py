"""The settings of docker-compose.yml's web server: `check --deploy` is silent, and what browsers are told holds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import environment_of
from tests.support.process import ROOT
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS

HOST = "coupons.example.test"
PROXY, STRANGER = "172.18.0.1", "203.0.113.9"
ASK = """
import json, sys
import django
django.setup()
from django.test import Client
answers = []
for path, address, scheme in json.loads(sys.argv[1]):
    headers = {"host": "coupons.example.test", **({"x-forwarded-proto": scheme} if scheme else {})}
    answer = Client(headers=headers, REMOTE_ADDR=address).get(path)
    cookies = {name: dict(cookie) for name, cookie in answer.cookies.items()}
    answers.append({"status": answer.status_code, "headers": dict(answer.headers), "cookies": cookies})
print(json.dumps(answers))
"""


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    """Nothing of the tests' own settings is left."""
    nothing = tmp_path / "env"
    nothing.write_text("")
    path = {
        "PATH": os.environ["PATH"],
        "COUPON_ENV_FILE": str(nothing),
        "DJANGO_SETTINGS_MODULE": "couponsite.settings",
    }
    return {**environment_of("web"), **path}


def python(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def ask(environment: dict[str, str], *questions: tuple[str, str, str]) -> list[dict[str, Any]]:
    done = python(environment, "-c", ASK, json.dumps(questions))
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_check_deploy_has_nothing_to_say(service: Service, production: dict[str, str]) -> None:
    servers = ("DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "COUPON_TOPIC", "COUPON_TOPIC_PARTITIONS")
    test_s_own = {name: service.environment[name] for name in servers} | LONG_TIMEOUTS

    done = python({**production, **test_s_own}, "manage.py", "check", "--deploy", "--fail-level", "WARNING")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("System check identified no issues (2 silenced).")


def test_a_log_in_page_behind_a_proxy_has_hsts(production: dict[str, str]) -> None:
    (page,) = ask(production, ("/admin/login/", PROXY, "https"))

    assert page["status"] == 200
    headers = page["headers"]
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    (cookie,) = page["cookies"].items()
    assert cookie[0] == "__Host-csrftoken"
    assert {"secure": True, "httponly": True, "samesite": "Lax", "path": "/", "domain": ""}.items() <= cookie[1].items()


def test_the_session_s_cookie_is_as_the_token_s(production: dict[str, str]) -> None:
    ask_settings = (
        "import django; from django.conf import settings as s; "
        "print(s.SESSION_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.SESSION_COOKIE_HTTPONLY, s.SESSION_COOKIE_SAMESITE)"
    )
    assert python(production, "-c", ask_settings).stdout == "__Host-sessionid True True Lax\n"


@pytest.mark.attack(
    "X-Forwarded-Proto of a stranger", "plain http, with the header of a proxy that ended TLS", "301 to https"
)
def test_plain_http_redirects_except_for_the_api(production: dict[str, str]) -> None:
    pages = ask(
        production,
        ("/admin/login/?next=/admin/", PROXY, "http"),
        ("/admin/login/", PROXY, ""),
        ("/admin/login/", STRANGER, "https"),
        ("/api/docs/", PROXY, "http"),
    )
    assert [page["status"] for page in pages] == [301] * 4
    assert pages[0]["headers"]["Location"] == f"https://{HOST}/admin/login/?next=/admin/"
    assert not any("Strict-Transport-Security" in page["headers"] for page in pages)

    api, alive = ask(production, ("/api/v1/campaigns", PROXY, "http"), ("/healthz", "127.0.0.1", ""))
    assert (api["status"], alive["status"]) == (401, 200)


def test_an_answer_of_the_api_carries_no_page_s_headers(production: dict[str, str]) -> None:
    (api,) = ask(production, ("/api/v1/campaigns", PROXY, "https"))

    assert not {"Content-Security-Policy", "X-Frame-Options", "Vary", "Set-Cookie"} & set(api["headers"])
    assert api["headers"]["X-Content-Type-Options"] == "nosniff"
    assert "Strict-Transport-Security" in api["headers"]


@pytest.mark.parametrize(
    ("changed", "cookie"),
    [
        ({"DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost,coupons.example.test"}, "__Host-csrftoken"),
        ({"COUPON_HTTPS": "false"}, "csrftoken"),
    ],
)
def test_any_public_host_name_switches_https_on(
    production: dict[str, str], changed: dict[str, str], cookie: str
) -> None:
    (page,) = ask({**production, **changed}, ("/admin/login/", PROXY, "https"))

    assert list(page["cookies"]) == [cookie]


def test_a_stack_of_one_s_own_is_served_without_tls(production: dict[str, str]) -> None:
    own = {**production, "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost,[::1]", "COUPON_TRUSTED_PROXIES": ""}
    done = python(own, "-c", ASK.replace(HOST, "localhost"), json.dumps([("/admin/login/", "127.0.0.1", "")]))

    (page,) = json.loads(done.stdout)
    assert (page["status"], list(page["cookies"])) == (200, ["csrftoken"])
    assert "Strict-Transport-Security" not in page["headers"]
