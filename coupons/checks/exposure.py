"""System checks that refuse to start with settings that expose the service. With DJANGO_DEBUG on they pass."""

import re
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's own name

MIN_SECRET_CHARACTERS = 32
MIN_DISTINCT_CHARACTERS = 10
# Words in secrets of examples and of project templates, without their dashes and underscores.
PLACEHOLDER_WORDS = ("insecure", "changeme", "replaceme", "secretkey", "yoursecret", "example", "placeholder")
ONE_ORIGIN = re.compile(r"https?://([\w.-]+|\[[\da-f:.]+\])(:\d+)?")
HOW_TO_GENERATE = 'Make one: python -c "import secrets; print(secrets.token_urlsafe(50))"'


@register("coupons")
def check_exposure(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Every command runs this at its start, and the web server calls it."""
    if settings.DEBUG:
        return []
    return [*_secret(), *_hosts(), *_origins()]


def _secret() -> list[CheckMessage]:
    named = [("DJANGO_SECRET_KEY", settings.SECRET_KEY)]
    named += [("DJANGO_SECRET_KEY_FALLBACKS", secret) for secret in settings.SECRET_KEY_FALLBACKS]
    hint = f"It signs sessions and messages. {HOW_TO_GENERATE}"
    weak = [(name, reason) for name, secret in named if (reason := weakness_of(secret)) is not None]
    return [Error(f"{name} {reason}.", hint=hint, id="coupons.E017") for name, reason in weak]


def weakness_of(secret: str) -> str | None:
    """Returns why the secret can be guessed, without repeating any of it. Returns None for a strong one."""
    if len(secret) < MIN_SECRET_CHARACTERS:
        return f"has fewer than {MIN_SECRET_CHARACTERS} characters"
    if len(set(secret)) < MIN_DISTINCT_CHARACTERS:
        return f"has fewer than {MIN_DISTINCT_CHARACTERS} different characters"
    if any(word in secret.lower().replace("-", "").replace("_", "") for word in PLACEHOLDER_WORDS):
        return "is a placeholder of an example or of a project template"
    return None


def _hosts() -> list[CheckMessage]:
    if not settings.ALLOWED_HOSTS:
        hint = "Name the hosts that clients use, or unset it for this machine alone."
        return [Error("DJANGO_ALLOWED_HOSTS is empty: every request is refused.", hint=hint, id="coupons.E012")]
    if any(host.strip(".") in ("*", "") for host in settings.ALLOWED_HOSTS):
        hint = "Name the hosts that clients use; `.shop.example` stands for all below it."
        return [Error("DJANGO_ALLOWED_HOSTS allows any host.", hint=hint, id="coupons.E013")]
    return []


def _origins() -> list[CheckMessage]:
    bad = [origin for origin in settings.CORS_ALLOWED_ORIGINS if not ONE_ORIGIN.fullmatch(origin)]
    if not bad and not getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False):
        return []
    text = f"COUPON_CORS_ORIGINS: {bad[0]!r} is no single origin." if bad else "Every origin may call the API."
    hint = "Name them, each as https://shop.example, separated by commas."
    return [Error(text, hint=hint, id="coupons.E014")]


@register("coupons", deploy=True)
def check_proxies(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Warns only: the API works without a proxy."""
    if not settings.HTTPS or settings.TRUSTED_PROXIES:
        return []
    hint = "Name the proxy that ends TLS, or set COUPON_HTTPS=false where there is none."
    text = "COUPON_HTTPS is on and COUPON_TRUSTED_PROXIES is empty: the admin redirects to https for ever."
    return [Warning(text, hint=hint, id="coupons.W005")]
