"""Typed readers of environment variables for settings.py: an error names the variable and the remedy."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from coupons.failpoints import check_folder


def required(name: str, *, default: str | None = None, hint: str = "") -> str:
    value = os.environ.get(name, default)
    if not value or not value.strip():
        raise ImproperlyConfigured(
            f"{name} is not set{f' ({hint})' if hint else ''}. "
            "Set it in the environment or in .env; `make up` writes all settings of a local stack to .stack/env."
        )
    return value.strip()


def integer(name: str, *, default: int, least: int, most: int | None = None) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    try:
        value = int(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={text!r} is not a whole number.") from None
    if value < least or (most is not None and value > most):
        upper = f" and at most {most}" if most is not None else ""
        raise ImproperlyConfigured(f"{name}={value} is out of range: it must be at least {least}{upper}.")
    return value


def boolean(name: str, *, default: bool) -> bool:
    text = os.environ.get(name, "").strip().lower() or str(default).lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{name}={text!r} is neither true nor false.")


def choice(name: str, *, default: str, of: Sequence[str]) -> str:
    value = os.environ.get(name, "").strip() or default
    if value not in of:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(of)}.")
    return value


def string_list(name: str, *, default: str) -> list[str]:
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


def url(name: str, *, schemes: Sequence[str]) -> str:
    """The URL itself; the error never repeats the value, which may hold a password."""
    value = required(name, hint=f"{schemes[0]}://...")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and bool(parts.hostname or parts.path)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise ImproperlyConfigured(f"{name} is no URL that starts with {' or '.join(f'{s}://' for s in schemes)}.")
    return value


def folder(name: str) -> Path | None:
    """A folder that is there; None when the variable is not set."""
    value = os.environ.get(name, "").strip()
    if not value:
        return None
    path = Path(value).absolute()
    if not path.is_dir():
        raise ImproperlyConfigured(f"{name} names {value!r}, which is no folder: make it or correct the path.")
    return path


def failpoints_folder(name: str) -> Path | None:
    """None = off. What is armed in it already is checked, too."""
    value = os.environ.get(name, "").strip()
    if not value:
        return None
    folder = Path(value)
    check_folder(folder)
    return folder


def key_value_pairs(name: str) -> dict[str, str]:
    """`a=b;c=d` as a dictionary."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in os.environ.get(name, "").split(";"))):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise ImproperlyConfigured(f"{name}: {key!r} is no key=value pair; write a=b;c=d.")
        pairs[key.strip()] = value.strip()
    return pairs
