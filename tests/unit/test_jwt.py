"""A token that was verified is good again, until it expires or its key goes; what was not is never remembered."""

import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import jwt
import pytest
from django.conf import LazySettings

from coupons.auth import jwt as tokens
from coupons.auth import jwt_keys
from coupons.auth.caller import Caller, NotKnown
from coupons.auth.jwt import caller_of_token
from coupons.auth.jwt_keys import TokenKey
from coupons.auth.seen_tokens import Seen, SeenTokens
from tests.support.issuer import AUDIENCE, ISSUER, Issuer

CALLER = Caller(name="user", scopes=frozenset(), user_id="1")


@pytest.fixture
def issuer(tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    settings.JWT_KEYS_DIR, settings.JWT_ISSUER, settings.JWT_AUDIENCE = tmp_path, ISSUER, AUDIENCE
    monkeypatch.setattr(jwt_keys, "REREAD_SEC", 0)
    monkeypatch.setattr(tokens, "_seen", SeenTokens(10))
    issuer = Issuer(tmp_path)
    issuer.add("a", "HS256")
    issuer.add("b", "ES256")
    return issuer


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were verified, one by one."""
    seen: list[str] = []
    real = tokens._jwt.decode

    def decode(token: str, *arguments: object, **options: object) -> object:
        seen.append(token)
        return real(token, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tokens._jwt, "decode", decode)
    return seen


def test_who_asks_again_costs_no_signature(issuer: Issuer, verified: list[str]) -> None:
    anna, ben = issuer.token("anna", kid="b"), issuer.token("ben", kid="b")

    assert [caller_of_token(token).user_id for token in (anna, ben, anna, ben)] == ["anna", "ben", "anna", "ben"]
    assert verified == [anna, ben]


def test_a_token_that_expires_meanwhile_is_refused(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    token = issuer.token("anna", exp=now + 5)
    caller_of_token(token)
    # a token is good for the leeway longer
    monkeypatch.setattr(time, "time", lambda: now + 9)
    assert caller_of_token(token).user_id == "anna"
    monkeypatch.setattr(time, "time", lambda: now + 10)
    monkeypatch.setattr("jwt.api_jwt.datetime", _Later)

    with pytest.raises(NotKnown, match="it has expired"):
        caller_of_token(token)


class _Later(datetime):
    """PyJWT's clock, when the token has expired."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(seconds=20)


def test_a_key_that_was_taken_away_opens_nothing(issuer: Issuer) -> None:
    token = issuer.token("anna", kid="b")
    caller_of_token(token)

    issuer.remove("b")

    with pytest.raises(NotKnown, match="names no key"):
        caller_of_token(token)


def test_another_key_of_the_same_name_does_not_vouch_for_the_old_one_s_tokens(issuer: Issuer) -> None:
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
    assert len(tokens._seen) == 0


def test_the_memory_is_bounded_and_forgets_who_has_not_come_for_longest() -> None:
    seen = SeenTokens(2)
    for token in ("a", "b"):
        seen.remember(token, Seen(CALLER, "k", TokenKey("HS256"), until=9e9))
    seen.find("a")
    seen.remember("c", Seen(CALLER, "k", TokenKey("HS256"), until=9e9))

    assert len(seen) == 2
    assert [token for token in ("a", "b", "c") if seen.find(token)] == ["a", "c"]


@pytest.mark.parametrize(
    "segment", [b"", b"YQ", b"YWI", b"YWJj", b"_-8", b"YQ==", b"YQ=", b"YR", b"Y!Q", b"YQ\n", b"Y", b"+/8", b"\xff"]
)
def test_a_segment_is_read_as_pyjwt_reads_it(segment: bytes) -> None:
    assert read(tokens._QuickJWS, segment) == read(jwt.PyJWS, segment)


def read(reader: type[jwt.PyJWS], segment: bytes) -> object:
    try:
        return reader._decode_base64url_segment(segment, "header")
    except jwt.DecodeError as error:
        return str(error)
