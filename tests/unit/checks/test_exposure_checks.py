"""With DEBUG off nothing starts that would stand open to everybody: each reason, and how it is said."""

import os
import re
import subprocess
import sys

import pytest
from django.conf import LazySettings

from coupons.checks.exposure import check_exposure, check_proxies, weakness_of
from couponsite.env_file import read_env_file
from tests.support.process import ROOT

GOOD_SECRET = "k3v-9Qw_Zr71TgxYb0LmNs54CdEfHjUp8OaIiRt2"


def found_with(settings: LazySettings, **values: object) -> list[str]:
    """Id, text and hint of what the check finds with these settings and DEBUG off."""
    for name, value in {"DEBUG": False, "SECRET_KEY": GOOD_SECRET, "ALLOWED_HOSTS": ["shop.example"], **values}.items():
        setattr(settings, name, value)
    return [f"{message.id}: {message.msg} {message.hint}" for message in check_exposure(None)]


def test_good_settings_have_nothing_to_say(settings: LazySettings) -> None:
    assert found_with(settings, CORS_ALLOWED_ORIGINS=["https://shop.example", "http://localhost:3000"]) == []


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "x" * 60,
        "django-insecure-8s!k3v9qwzr71tgxyb0lmns54cdefhjup",
        "change-me-change-me-change-me-0123456789",
        "your-secret-key-goes-here-and-is-long-enough",
    ],
)
def test_a_guessable_secret_is_refused_and_not_shown(settings: LazySettings, secret: str) -> None:
    (text,) = found_with(settings, SECRET_KEY=secret)

    assert re.match(r"coupons.E017: DJANGO_SECRET_KEY (has fewer than|is a placeholder).*secrets.token_urlsafe", text)
    assert secret not in text


def test_the_generated_secret_of_a_stack_is_accepted() -> None:
    assert weakness_of(read_env_file(ROOT / os.environ["COUPON_ENV_FILE"])["DJANGO_SECRET_KEY"]) is None


def test_an_empty_list_of_hosts_is_refused(settings: LazySettings) -> None:
    (text,) = found_with(settings, ALLOWED_HOSTS=[])

    assert re.match("coupons.E012: DJANGO_ALLOWED_HOSTS is empty.*Name the hosts", text)


@pytest.mark.parametrize("hosts", [["*"], ["shop.example", "*"], [".*"], ["."]])
def test_hosts_of_everybody_are_refused(settings: LazySettings, hosts: list[str]) -> None:
    (text,) = found_with(settings, ALLOWED_HOSTS=hosts)

    assert re.match("coupons.E013: DJANGO_ALLOWED_HOSTS allows any host.*Name the hosts", text)


@pytest.mark.parametrize(
    "origin", ["*", "null", "https://*", "https://*.shop.example", "shop.example", "https://shop.example/", "https://["]
)
def test_origins_of_everybody_are_refused(settings: LazySettings, origin: str) -> None:
    (text,) = found_with(settings, CORS_ALLOWED_ORIGINS=["https://shop.example", origin])

    assert text.startswith(f"coupons.E014: COUPON_CORS_ORIGINS: {origin!r} is no single origin. Name them")


def test_cors_for_everybody_is_refused_however_it_was_switched_on(settings: LazySettings) -> None:
    (text,) = found_with(settings, CORS_ALLOW_ALL_ORIGINS=True)

    assert text.startswith("coupons.E014: Every origin may call the API.")


def test_a_developer_with_debug_on_may_do_all_of_it(settings: LazySettings) -> None:
    assert found_with(settings, DEBUG=True, SECRET_KEY="x", ALLOWED_HOSTS=["*"], CORS_ALLOWED_ORIGINS=["*"]) == []


def test_a_former_secret_that_can_be_guessed_is_refused_too(settings: LazySettings) -> None:
    """What it signs is good."""
    (text,) = found_with(settings, SECRET_KEY_FALLBACKS=[GOOD_SECRET, "short"])

    assert "DJANGO_SECRET_KEY_FALLBACKS has fewer than" in text


def test_tls_that_no_proxy_can_have_ended_is_a_warning(settings: LazySettings) -> None:
    settings.HTTPS, settings.TRUSTED_PROXIES = True, []
    assert [message.id for message in check_proxies(None)] == ["coupons.W005"]

    settings.HTTPS = False
    assert check_proxies(None) == []


STARTS = {
    "the web server": ["-c", "import couponsite.wsgi"],
    "the consumer": ["manage.py", "run_coupon_consumer"],
    "the keeper": ["manage.py", "run_keeper"],
    "the jobs": ["manage.py", "run_jobs"],
    "a command": ["manage.py", "retry_failed_coupons"],
    "the migrations": ["manage.py", "migrate", "--plan"],
}


@pytest.mark.parametrize("start", [pytest.param(words, id=name) for name, words in STARTS.items()])
def test_nothing_starts_with_a_secret_of_an_example(start: list[str]) -> None:
    refused = started(start, DJANGO_SECRET_KEY="django-insecure-8s!k3v9qwzr71tgxyb0lmns54cdefhjup")

    assert refused.returncode != 0
    assert "coupons.E017" in refused.stderr
    assert "secrets.token_urlsafe(50)" in refused.stderr


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("DJANGO_SECRET_KEY", "", "DJANGO_SECRET_KEY is not set"),
        ("DJANGO_ALLOWED_HOSTS", "", "coupons.E012"),
        ("DJANGO_ALLOWED_HOSTS", "*", "coupons.E013"),
        ("COUPON_CORS_ORIGINS", "*", "coupons.E014"),
        ("COUPON_TRUSTED_PROXIES", "0.0.0.0/0", "COUPON_TRUSTED_PROXIES: 0.0.0.0/0 is half the internet"),
        ("COUPON_TRUSTED_PROXIES", "10.0.0.7,::/0", "COUPON_TRUSTED_PROXIES: ::/0 is half the internet"),
        ("COUPON_TRUSTED_PROXIES", "*", "COUPON_TRUSTED_PROXIES: '*' does not appear to be"),
    ],
)
def test_the_web_server_does_not_start_and_says_why(name: str, value: str, reason: str) -> None:
    refused = started(STARTS["the web server"], **{name: value})

    assert refused.returncode != 0
    assert f"ImproperlyConfigured: {reason}" in refused.stderr


def started(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    whole = {**os.environ, "DJANGO_DEBUG": "false", **environment}
    return subprocess.run(command, cwd=ROOT, env=whole, capture_output=True, text=True, timeout=60, check=False)
