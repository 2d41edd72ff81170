"""Reads the keys that verify users' tokens from the folder COUPON_JWT_KEYS_DIR:

    2026-11.RS256.pem      a public key, whose kid is 2026-11; also ES256 (P-256) and EdDSA (Ed25519)
    legacy.HS256.secret    the secret itself, 32 bytes at least; a line break after a text does not belong to it
    jwks.json              a JWK Set (RFC 7517), as issuers publish it: for any kid, also one that no file can have

A token that names no kid is verified by the folder's only key, and refused while there are several.

Each key fixes its algorithm (by the file's name, or the entry's `alg` or type), so that a token cannot choose one.
Every process notices an added, removed or replaced file within REREAD_SEC, without a restart. To rotate: add the new
key, let the issuer change over, remove the old one when its last token has expired. A bad file or entry does not
affect the others.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.conf import settings
from jwt.algorithms import HMACAlgorithm, get_default_algorithms

logger = logging.getLogger(__name__)
REREAD_SEC = 2.0
MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: as long as the hash
MIN_RSA_BITS = 2048
KEY_SET = "jwks.json"
PRIVATE = "a private key belongs to the issuer alone"
Signature = tuple[tuple[str, int, int, int], ...]
_NAME = re.compile(r"(?P<kid>[A-Za-z0-9._-]{1,64})\.(?P<algorithm>[A-Za-z0-9]+)\.(?P<kind>pem|secret)")


class BadKey(Exception):
    """A file, or an entry of the key set, is no valid key. The text names it and what is needed, never its content."""


NEEDED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "HS256": (
        f"a secret of {MIN_SECRET_BYTES} bytes at least",
        lambda key: isinstance(key, bytes) and len(key) >= MIN_SECRET_BYTES,
    ),
    "RS256": (
        f"RSA of {MIN_RSA_BITS} bits at least",
        lambda key: isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS,
    ),
    "ES256": ("a P-256 key", lambda key: isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)),
    "EdDSA": ("an Ed25519 key", lambda key: isinstance(key, Ed25519PublicKey)),
}


class TokenKeys:
    """Holds the folder's keys by kid, and reads them again when a file has changed. Use `token_keys()`.

    A key that was read again is another object, so that nothing counts as verified that its predecessor verified.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked_at = time.monotonic()
        self._read(_signature(folder))

    def find(self, kid: object) -> jwt.PyJWK | None:
        """Returns the key of this kid; for None, which is a header without one, the only key."""
        if time.monotonic() - self._looked_at > REREAD_SEC:
            self._looked_at = time.monotonic()  # first, so that the other threads go on meanwhile
            signature = _signature(self._folder)
            if signature != self._current[0]:
                self._read(signature)
        keys = self._current[1]
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(kid) if isinstance(kid, str) else None

    def _read(self, signature: Signature) -> None:
        keys, errors = read_keys(self._folder)
        for error in errors:
            logger.error("callers.bad_key_file error=%s", error)
        logger.info("callers.token_keys kids=%s", ",".join(sorted(kid or "(without)" for kid in keys)) or "none")
        # One assignment: if a thread that was held up puts older keys back, their signature shows it at the next look.
        self._current = signature, keys


def token_keys() -> TokenKeys | None:
    """Returns this process's keys, None when COUPON_JWT_KEYS_DIR is not set."""
    folder: Path | None = settings.JWT_KEYS_DIR
    return None if folder is None else _keys_of(folder)


_keys_of = cache(TokenKeys)


def read_keys(folder: Path) -> tuple[dict[str | None, jwt.PyJWK], list[BadKey]]:
    """Returns the keys by kid; the only key may have none."""
    keys: dict[str | None, jwt.PyJWK] = {}
    errors: list[BadKey] = []
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        return {}, [BadKey(f"{folder}: {error.strerror}")]
    for file in files:
        try:
            content = file.read_bytes()
            found = _read_set(content, errors) if file.name == KEY_SET else [_read_file(file.name, content)]
        except OSError as error:
            errors.append(BadKey(f"{file.name}: {error.strerror}."))
        except BadKey as error:
            errors.append(error)
        else:
            for kid, key in found:
                if kid in keys:
                    errors.append(BadKey(f"{file.name}: there is another key of the kid {kid!r}; one of them must go."))
                keys.setdefault(kid, key)
    if None in keys and len(keys) > 1:
        del keys[None]
        errors.append(BadKey(f"{KEY_SET}: a key has no kid, which only a folder with no other key may have."))
    return keys, errors


def _read_set(content: bytes, errors: list[BadKey]) -> list[tuple[str | None, jwt.PyJWK]]:
    """Adds to `errors` for each entry that is no valid key. Raises BadKey for a set that is none."""
    try:
        entries = json.loads(content)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise BadKey(f'{KEY_SET}: no JWK Set, which is {{"keys": [...]}}.')
    found = []
    for number, entry in enumerate(entries, start=1):
        try:
            # An issuer's set may have encryption keys too.
            if not isinstance(entry, dict) or entry.get("use", "sig") == "sig":
                found.append(_read_entry(number, entry))
        except BadKey as error:
            errors.append(error)
    return found


def _read_file(name: str, content: bytes) -> tuple[str | None, jwt.PyJWK]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise BadKey(f"{name}: name it KID.ALGORITHM.pem, KID.HS256.secret or {KEY_SET}, e.g. 2026-11.RS256.pem.")
    algorithm, kind = match["algorithm"], match["kind"]
    if (algorithm == "HS256") != (kind == "secret"):
        raise BadKey(f"{name}: HS256 takes a .secret, every other algorithm the public key as .pem.")
    if kind == "secret":
        # Strips a text only: in random bytes, a blank at the end belongs to the secret.
        return match["kid"], _checked(name, algorithm, content.strip() if content.isascii() else content)
    try:
        key = load_pem_public_key(content)
    except ValueError:
        raise BadKey(f"{name}: no public key in PEM (-----BEGIN PUBLIC KEY-----); {PRIVATE}.") from None
    return match["kid"], _checked(name, algorithm, key)


def _read_entry(number: int, entry: Any) -> tuple[str | None, jwt.PyJWK]:
    name = f"{KEY_SET}, key {number}"
    kid, algorithm = (entry.get("kid"), entry.get("alg")) if isinstance(entry, dict) else ("", None)
    if kid is not None and (not isinstance(kid, str) or not kid):
        raise BadKey(f"{name}: it has no kid that is a text.")
    if algorithm is not None and algorithm not in list(NEEDED):
        raise BadKey(f"{name}: its alg is none of {', '.join(NEEDED)}.")
    if entry.get("kty") != "oct" and "d" in entry:
        raise BadKey(f"{name}: {PRIVATE}.")
    try:
        key = jwt.PyJWK(entry)
    except (jwt.PyJWTError, ValueError, TypeError, LookupError) as error:
        raise BadKey(f"{name}: no JWK ({type(error).__name__}).") from None  # PyJWT's text repeats the entry
    return kid, _checked(name, key.algorithm_name, key.key)


def _checked(name: str, algorithm: str, key: Any) -> jwt.PyJWK:
    if algorithm not in NEEDED:
        raise BadKey(f"{name}: {algorithm} is none of {', '.join(NEEDED)}.")
    needed, is_good = NEEDED[algorithm]
    if not is_good(key):
        raise BadKey(f"{name}: {algorithm} needs {needed}.")
    if algorithm == "HS256" and _is_public_key(key):
        raise BadKey(f"{name}: this is a public key; as a secret it would let everybody sign.")
    # As a JWK, PyJWT has the key prepared; for bytes it would look at each token anew whether they are text in PEM.
    return jwt.PyJWK(get_default_algorithms()[algorithm].to_jwk(key, as_dict=True), algorithm)


def _is_public_key(secret: bytes) -> bool:
    """Whether the secret is a public key, also one with blanks around it."""
    hmac = HMACAlgorithm(HMACAlgorithm.SHA256)
    text = secret.lstrip()
    try:
        for end in range(len(text.rstrip()), len(text) + 1):
            hmac.prepare_key(text[:end])
        hmac.prepare_key(secret)
    except jwt.InvalidKeyError:
        return True
    return False


def _signature(folder: Path) -> Signature:
    """Changes when a file is added, removed or written, also through the links of a mounted secret."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries if not entry.name.startswith(".")]
    except OSError:  # a file was removed meanwhile: the next scan differs again
        return ()
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in found))
