"""A token that was verified is good again, until it expires or its key goes; what was not is never remembered."""

import time
from pathlib import Path

import jwt
import pytest
from django.conf import LazySettings

from coupons.auth import jwt_keys
from coupons.auth.caller import NotKnown
from coupons.auth.jwt import caller_of_token
from tests.support.issuer import AUDIENCE, ISSUER, Issuer


@pytest.fixture
def issuer(tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    settings.JWT_KEYS_DIR, settings.JWT_ISSUER, settings.JWT_AUDIENCE = tmp_path, ISSUER, AUDIENCE
    monkeypatch.setattr(jwt_keys, "REREAD_SEC", 0)
    issuer = Issuer(tmp_path)
    issuer.add("a", "HS256")
    issuer.add("b", "ES256")
    return issuer


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were verified, one by one."""
    seen: list[str] = []
    real = jwt.decode

    def decode(token: str, *arguments: object, **options: object) -> object:
        seen.append(token)
        return real(token, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jwt, "decode", decode)
    return seen


def at(now: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this host's clock, for whatever has been verified."""
    monkeypatch.setattr("coupons.auth.jwt.time.time", lambda: now)


def test_who_asks_again_costs_no_signature(issuer: Issuer, verified: list[str]) -> None:
    anna, ben = issuer.token("anna", kid="b"), issuer.token("ben", kid="b")

    assert [caller_of_token(token).user_id for token in (anna, ben, anna, ben)] == ["anna", "ben", "anna", "ben"]
    assert verified == [anna, ben]


def test_a_verified_token_that_expires_is_refused(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(time.time())
    token = issuer.token("anna", exp=now + 60)
    caller_of_token(token)

    at(now + 64, monkeypatch)  # good for the leeway longer
    assert caller_of_token(token).user_id == "anna"
    at(now + 65, monkeypatch)
    with pytest.raises(NotKnown, match="it has expired"):
        caller_of_token(token)


def test_a_verified_token_is_not_good_before_its_time(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's clock was set back meanwhile."""
    now = int(time.time())
    token = issuer.token("anna", nbf=now)
    caller_of_token(token)

    at(now - 6, monkeypatch)

    with pytest.raises(NotKnown, match="it is not valid yet"):
        caller_of_token(token)


def test_a_key_that_was_taken_away_opens_nothing(issuer: Issuer) -> None:
    token = issuer.token("anna", kid="b")
    caller_of_token(token)

    issuer.remove("b")

    with pytest.raises(NotKnown, match="names no key"):
        caller_of_token(token)


def test_a_replaced_key_no_longer_vouches_for_its_tokens(issuer: Issuer) -> None:
    token = issuer.token("anna", kid="b")
    caller_of_token(token)

    issuer.add("b", "ES256")

    with pytest.raises(NotKnown, match="its signature is wrong"):
        caller_of_token(token)


def test_what_was_refused_is_not_remembered(issuer: Issuer, verified: list[str]) -> None:
    bad = issuer.token("anna")[:-4] + "AAAA"
    for _ in range(2):
        with pytest.raises(NotKnown):
            caller_of_token(bad)

    assert verified == [bad, bad]
