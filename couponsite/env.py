"""Reads typed environment variables for settings.py; each error names the variable and the remedy.

The casts of django-environ (tried with 0.14) do not serve: `int` fails without the variable's name and checks no range,
`bool` takes "maybe" for false, `list` keeps blanks, and `dict` reads `a=b;c=d` as one pair.
"""

import hmac
import os
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from couponsite.env_file import BadLine, read_env_file

OUR_PREFIX = "COUPON_"
MIN_SECRET_BYTES = 32
MIN_PREFIX = {4: 8, 6: 16}  # the largest network that one operator has, 10.0.0.0/8

_read = {"COUPON_ENV_FILE"}


def read_file(*usual: Path) -> None:
    """Loads KEY=value lines from the file that COUPON_ENV_FILE names, else from the first of `usual` that exists.

    Variables of the environment win. couponsite/env_file.py says how a line is read.
    """
    named = os.environ.get("COUPON_ENV_FILE")
    if named and not Path(named).is_file():
        raise ImproperlyConfigured(f"COUPON_ENV_FILE names {named!r}, which is no file: correct the path or unset it.")
    for file in [Path(named)] if named else usual:
        if file.is_file():
            try:
                values = read_env_file(file)
            except BadLine as error:
                raise ImproperlyConfigured(str(error)) from None
            except OSError as error:
                raise ImproperlyConfigured(f"{file} cannot be read: {error.strerror}.") from None
            os.environ.update({name: value for name, value in values.items() if name not in os.environ})
            return


def unread() -> list[str]:
    """Returns the variables COUPON_... that are set and were not read so far: misspelt, or of an earlier version."""
    return sorted(name for name in os.environ if name.startswith(OUR_PREFIX) and name not in _read)


def _given(name: str, *, default: str = "") -> str:
    _read.add(name)
    return os.environ.get(name, default).strip()


def is_set(name: str) -> bool:
    return bool(_given(name))


def required(name: str, *, default: str = "", hint: str = "") -> str:
    value = _given(name, default=default)
    if not value:
        raise ImproperlyConfigured(
            f"{name} is not set{f' ({hint})' if hint else ''}. "
            "Set it in the environment or in .env; `make up` writes all settings of a local stack to .stack/env."
        )
    return value


def claim(name: str, *, hint: str) -> str | None:
    """Reads what a claim of each token must be; None for the word `none`, which says that the tokens lack it."""
    value = required(name, hint=f"{hint}; `none` if they have none")
    return None if value == "none" else value


def path(name: str) -> Path | None:
    """Reads the path of a folder that need not exist yet; None when the variable is not set."""
    value = _given(name)
    return Path(value).absolute() if value else None


def path_prefix(name: str, *, taken: Sequence[str]) -> str:
    """Reads a path like `/coupons`, without the slash at its end; "" when the variable is not set.

    `taken` are the first parts of the service's own paths: below one of them, a prefix could not be told from the path.
    """
    value = _given(name).rstrip("/")
    if not value:
        return ""
    parts = value.split("/")
    if parts.pop(0) or not all(re.fullmatch(r"(?!\.{1,2}$)[A-Za-z0-9._~-]+", part) for part in parts):
        raise ImproperlyConfigured(f"{name}={value!r} is no path like /coupons, of A-Z a-z 0-9 . _ ~ - and slashes.")
    if parts[0] in taken:
        raise ImproperlyConfigured(f"{name}={value!r} begins like a path of the service itself: choose another name.")
    return value


def integer(name: str, *, default: int, least: int, most: int | None = None) -> int:
    text = _given(name) or str(default)
    try:
        value = int(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={text!r} is not a whole number.") from None
    if value < least or (most is not None and value > most):
        upper = f" and at most {most}" if most is not None else ""
        raise ImproperlyConfigured(f"{name}={value} is out of range: it must be at least {least}{upper}.")
    return value


def boolean(name: str, *, default: bool) -> bool:
    text = (_given(name) or str(default)).lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{name}={text!r} is neither true nor false.")


def choice(name: str, *, default: str, of: Sequence[str]) -> str:
    value = _given(name) or default
    if value not in of:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(of)}.")
    return value


def string_list(name: str, *, default: str = "") -> list[str]:
    return [part.strip() for part in _given(name, default=default).split(",") if part.strip()]


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Reads addresses and networks, e.g. `10.0.0.7,10.1.0.0/16`, and refuses a network that is too large."""
    found: list[IPv4Network | IPv6Network] = []
    for text in string_list(name):
        try:
            network = ip_network(text)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {error}.") from None
        if network.prefixlen < MIN_PREFIX[network.version]:
            raise ImproperlyConfigured(
                f"{name}: {text} is half the internet, and any host in it may claim any address: name only the proxies."
            )
        found.append(network)
    return found


def url(name: str, *, schemes: Sequence[str]) -> str:
    """Reads a URL. The error never repeats the value, which may contain a password."""
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
    """Reads the path of an existing folder; None when the variable is not set."""
    found = path(name)
    if found is not None and not found.is_dir():
        raise ImproperlyConfigured(f"{name} names '{found}', which is no folder: make it or correct the path.")
    return found


def secrets_by_id(name: str) -> dict[str, bytes]:
    """Reads `id=secret;older=secret` and keeps the order; the errors repeat no secret."""
    secrets = {key: value.encode() for key, value in key_value_pairs(name).items()}
    for key, secret in secrets.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", key):
            raise ImproperlyConfigured(f"{name}: a key's id has 1-64 characters of A-Z a-z 0-9 . _ -; one has not.")
        if len(secret) < MIN_SECRET_BYTES:
            raise ImproperlyConfigured(f"{name}: the secret of {key!r} has fewer than {MIN_SECRET_BYTES} bytes.")
    return secrets


def keys_with_fingerprints(named: Mapping[str, bytes], *, derived: Sequence[bytes]) -> dict[str, bytes]:
    """Lists the named keys, then the derived ones as `default`. Each id ends with its secret's fingerprint, e.g.
    `2026-1a2b3c4d`: so a reader tells an unknown key from a wrong signature, even if a name gets another secret."""
    keys = [*named.items(), *(("default", secret) for secret in derived)]
    return {f"{name}-{sha256(secret).hexdigest()[:8]}": secret for name, secret in keys}


def derived_secret(secret_key: str, purpose: str) -> bytes:
    """Derives a separate secret for each purpose, like Django's salted_hmac. It reveals nothing about the key.

    It is hexadecimal text, so that an operator can configure it as a named secret.
    """
    return hmac.digest(secret_key.encode(), purpose.encode(), "sha256").hex().encode()


def key_value_pairs(name: str) -> dict[str, str]:
    r"""Reads `a=b;c=d`; `\;` is a `;` in a value. The error repeats no part of it, which may be half a password."""
    pairs: dict[str, str] = {}
    for number, part in enumerate(re.split(r"(?<!\\);", _given(name)), start=1):
        if not part.strip():
            continue
        key, separator, value = part.replace("\\;", ";").partition("=")
        if not separator or not key.strip():
            raise ImproperlyConfigured(
                f"{name}: part {number} is no key=value pair; write a=b;c=d, and \\; for a ; that belongs to a value."
            )
        pairs[key.strip()] = value.strip()
    return pairs
