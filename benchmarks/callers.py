"""Callers for the load client: users with a token each, of a key that is made here, and a service with an API key."""

import json
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.http_client import post

ISSUER, AUDIENCE = "https://accounts.bench.test", "coupons"
SECRET = "a secret of the benchmarks, which signs nothing else"  # noqa: S105
GOOD_SEC = 3_600
FIRST_ADDRESS = int(IPv4Address("8.0.0.0"))  # of the internet, so that it is counted

Bearer = Callable[[str], str]


def make_issuers(folder: Path) -> dict[str, Bearer]:
    """For each algorithm a function that signs a user's token; the folder has what the service needs to believe it."""
    rsa_key = rsa.generate_private_key(65537, 2048)
    edwards_key = ed25519.Ed25519PrivateKey.generate()
    for algorithm, key in (("RS256", rsa_key), ("EdDSA", edwards_key)):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"bench-{algorithm}.{algorithm}.pem").write_bytes(pem)
    (folder / "bench-HS256.HS256.secret").write_text(SECRET)
    keys: dict[str, Any] = {"RS256": rsa_key, "EdDSA": edwards_key, "HS256": SECRET}
    return {algorithm: partial(_token, algorithm, key) for algorithm, key in keys.items()}


def settings_of(folder: Path) -> dict[str, str]:
    """The environment of a web server that believes these issuers, and a proxy on this machine."""
    return {
        "COUPON_JWT_KEYS_DIR": str(folder),
        "COUPON_JWT_ISSUER": ISSUER,
        "COUPON_JWT_AUDIENCE": AUDIENCE,
        "COUPON_TRUSTED_PROXIES": "127.0.0.1",
    }


def request_of(user_id: str, bearer: str, *, host: str, port: int, path: str) -> bytes:
    """A user's application, as a proxy hands it on: each user has an address of their own."""
    headers = {
        "Authorization": f"Bearer {bearer}",
        "Content-Type": "application/json",
        "X-Forwarded-For": str(IPv4Address(FIRST_ADDRESS + int(user_id))),
    }
    return post(host=host, port=port, path=path, headers=headers, body=json.dumps({"user_id": user_id}).encode())


def _token(algorithm: str, key: Any, user_id: str) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "exp": int(time.time()) + GOOD_SEC}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": f"bench-{algorithm}"})
