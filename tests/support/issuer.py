"""Who issues users' tokens: makes keys into a folder as an operator would, and signs with them."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://accounts.shop.test"
AUDIENCE = "coupons"
SECRET = "a secret that is thirty-two bytes long, or more"


class Issuer:
    """`add` puts a key's public part (or the secret) into the folder; `token` signs for a user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._private: dict[str, tuple[str, Any]] = {}

    def add(self, kid: str, algorithm: str) -> None:
        if algorithm == "HS256":
            self._private[kid] = (algorithm, SECRET)
            (self.folder / f"{kid}.HS256.secret").write_text(SECRET + "\n")
            return
        key = self.keep(kid, algorithm, new_key(algorithm))
        (self.folder / f"{kid}.{algorithm}.pem").write_bytes(public_pem(key))

    def keep(self, kid: str, algorithm: str, key: Any) -> Any:
        """To sign with; its public part is the caller's to publish."""
        self._private[kid] = (algorithm, key)
        return key

    def remove(self, kid: str) -> None:
        algorithm, _ = self._private[kid]
        kind = "secret" if algorithm == "HS256" else "pem"
        (self.folder / f"{kid}.{algorithm}.{kind}").unlink()

    def token(self, user_id: object = "42", *, kid: str = "", leave_out: str = "", **claims: Any) -> str:
        """A good token, but for the claims that are given (or left out)."""
        kid = kid or next(iter(self._private))
        algorithm, key = self._private[kid]
        good: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "exp": time.time() + 300}
        payload = {name: value for name, value in (good | claims).items() if name != leave_out}
        return _sign(payload, key, algorithm, kid)

    def bearer(self, user_id: object = "42", **more: Any) -> str:
        return f"Bearer {self.token(user_id, **more)}"


def _sign(payload: dict[str, Any], key: Any, algorithm: str, kid: str) -> str:
    headers = {"kid": kid}
    # PyJWT would refuse to make a wrong `sub`; somebody else's library does not
    return str(jwt.PyJWS().encode(json.dumps(payload).encode(), key, algorithm, headers))


CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}


def new_key(algorithm: str, *, bits: int = 2048) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, bits)
    return ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ec.generate_private_key(CURVES[algorithm])


def private_jwk(key: Any, *, kid: str) -> dict[str, Any]:
    kinds: dict[type, Any] = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm = next((made for kind, made in kinds.items() if isinstance(key, kind)), OKPAlgorithm)
    return {**algorithm.to_jwk(key, as_dict=True), "kid": kid}


def public_jwk(key: Any, *, kid: str) -> dict[str, Any]:
    """As an issuer publishes it, but for the `alg` that some leave out."""
    public = ("kty", "crv", "n", "e", "x", "y")
    return {name: value for name, value in private_jwk(key, kid=kid).items() if name in (*public, "kid")}


def secret_jwk(secret: str, *, kid: str) -> dict[str, Any]:
    return {**HMACAlgorithm.to_jwk(secret, as_dict=True), "kid": kid}


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def public_der(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
