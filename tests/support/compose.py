"""The settings that docker-compose.yml gives to a part, as an operator would fill them in."""

import re

import yaml

from tests.support.process import ROOT

FILLED_IN = {
    "POSTGRES_PASSWORD": "0f3c",
    "REDIS_PASSWORD": "9ab1",
    "DJANGO_SECRET_KEY": "k3v-9Qw_Zr71TgxYb0LmNs54CdEfHjUp8OaIiRt2VvXx6MzqPpBbGgKkWw",
    "DJANGO_ALLOWED_HOSTS": "coupons.example.test",
    "COUPON_API_KEYS": "a-service's-key",
}


def environment_of(part: str) -> dict[str, str]:
    """What must be filled in is; `${NAME:-default}` is its default."""
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    given = document["services"][part]["environment"]
    return {name: re.sub(r"\$\{(\w+)(?::([?-])([^}]*))?\}", _value, str(value)) for name, value in given.items()}


def _value(found: re.Match[str]) -> str:
    name, kind, default = found.groups()
    return FILLED_IN.get(name, "") or (default if kind == "-" else FILLED_IN[name])
