"""The keys that users' tokens may be signed with: a folder with one file a key, named `<kid>.<algorithm>.<kind>`.

    2026-11.RS256.pem      a public key; also ES256 (P-256) and EdDSA (Ed25519)
    legacy.HS256.secret    the secret itself, 32 bytes at least; the line break after a text is none of it

The file's name fixes the algorithm, so that a token cannot choose one. A file that is added or removed counts within
REREAD_SEC in every process, without a restart: add the new key, let the issuer change over, remove the old one when
its last token has expired.
"""

import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.conf import settings
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

logger = logging.getLogger(__name__)
REREAD_SEC = 2.0
MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: as long as the hash
MIN_RSA_BITS = 2048
_NAME = re.compile(r"(?P<kid>[A-Za-z0-9._-]{1,64})\.(?P<algorithm>[A-Za-z0-9]+)\.(?P<kind>pem|secret)")


class BadKeyFile(Exception):
    """This file of the folder is no key; the text names it and says what it should be, and nothing of its content."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    algorithm: str
    key: Any = None

    def __repr__(self) -> str:
        return f"TokenKey({self.algorithm})"


class TokenKeys:
    """The folder's keys by kid, read again when a file in it has changed. Use `token_keys()`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._signature = _signature(folder)
        self._keys = self._read()

    def find(self, kid: str) -> TokenKey | None:
        if time.monotonic() - self._looked_at > REREAD_SEC and self._lock.acquire(blocking=False):
            try:
                self._look_again()
            finally:
                self._lock.release()
        return self._keys.get(kid)

    def _look_again(self) -> None:
        self._looked_at = time.monotonic()
        signature = _signature(self._folder)
        if signature != self._signature:
            self._signature = signature
            self._keys = self._read()

    def _read(self) -> dict[str, TokenKey]:
        keys, errors = read_keys(self._folder)
        for error in errors:
            logger.error("callers.bad_key_file error=%s", error)
        logger.info("callers.token_keys kids=%s", ",".join(sorted(keys)) or "none")
        return keys


def read_keys(folder: Path) -> tuple[dict[str, TokenKey], list[BadKeyFile]]:
    """The good keys, and why the other files are none. One bad file costs itself alone."""
    keys: dict[str, TokenKey] = {}
    errors: list[BadKeyFile] = []
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        return {}, [BadKeyFile(f"{folder}: {error.strerror}")]
    for file in files:
        try:
            kid, key = _read_key(file)
            if kid in keys:
                raise BadKeyFile(f"{file.name}: another file has the kid {kid!r} already; one of them must go.")
            keys[kid] = key
        except BadKeyFile as error:
            errors.append(error)
    return keys, errors


def _read_key(file: Path) -> tuple[str, TokenKey]:
    match = _NAME.fullmatch(file.name)
    if match is None:
        raise BadKeyFile(f"{file.name}: name it KID.ALGORITHM.pem or KID.HS256.secret, for example 2026-11.RS256.pem.")
    algorithm, kind = match["algorithm"], match["kind"]
    if (algorithm == "HS256") != (kind == "secret"):
        raise BadKeyFile(f"{file.name}: HS256 takes a .secret, every other algorithm the public key as .pem.")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadKeyFile(f"{file.name}: {error.strerror}.") from None
    if kind == "secret":
        return match["kid"], TokenKey(algorithm, _secret(file.name, content))
    return match["kid"], TokenKey(algorithm, _public_key(file.name, algorithm, content))


def _secret(name: str, content: bytes) -> bytes:
    # Only of a text: what looks like a blank at the end of random bytes is one of them.
    secret = content.strip() if content.isascii() else content
    if len(secret) < MIN_SECRET_BYTES:
        raise BadKeyFile(f"{name}: a secret of HS256 has {MIN_SECRET_BYTES} bytes at least.")
    hmac = HMACAlgorithm(HMACAlgorithm.SHA256)
    try:
        text = content.lstrip()
        for end in range(len(text.rstrip()), len(text) + 1):  # a public key is one with blanks around it, too
            hmac.prepare_key(text[:end])
        return hmac.prepare_key(secret)
    except InvalidKeyError:
        raise BadKeyFile(f"{name}: this is a public key; as a secret it would let everybody sign.") from None


def _public_key(name: str, algorithm: str, content: bytes) -> Any:
    try:
        key = load_pem_public_key(content)
    except ValueError:
        raise BadKeyFile(
            f"{name}: no public key in PEM (-----BEGIN PUBLIC KEY-----); a private key belongs to the issuer alone."
        ) from None
    good = {
        "RS256": isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS,
        "ES256": isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1),
        "EdDSA": isinstance(key, Ed25519PublicKey),
    }
    if algorithm not in good:
        raise BadKeyFile(f"{name}: {algorithm} is none of HS256, {', '.join(good)}.")
    if not good[algorithm]:
        wanted = {"RS256": f"RSA of {MIN_RSA_BITS} bits at least", "ES256": "a P-256 key", "EdDSA": "an Ed25519 key"}
        raise BadKeyFile(f"{name}: {algorithm} needs {wanted[algorithm]}.")
    return key


def _signature(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Changes when a file is added, removed or written, also through the links of a mounted secret."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries if not entry.name.startswith(".")]
    except OSError:  # a file that went away in between: the next look differs again
        return ()
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in found))


_held: dict[Path, TokenKeys] = {}


def token_keys() -> TokenKeys | None:
    """This process's; None when COUPON_JWT_KEYS_DIR is not set."""
    folder: Path | None = settings.JWT_KEYS_DIR
    if folder is None:
        return None
    keys = _held.get(folder)
    if keys is None:
        keys = _held.setdefault(folder, TokenKeys(folder))
    return keys
