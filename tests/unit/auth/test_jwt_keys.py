"""The folder of keys: files, and the key set jwks.json; what is a key in them, and what is said of the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from coupons.auth import jwt_keys
from coupons.auth.caller import NotKnown
from coupons.auth.jwt import caller_of_token
from coupons.auth.jwt_keys import KEY_SET, read_keys
from coupons.checks.configuration import check_token_keys
from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    SECRET,
    Issuer,
    new_key,
    private_jwk,
    private_pem,
    public_der,
    public_jwk,
    public_pem,
    secret_jwk,
)

ODD_KIDS = ["https://accounts.shop.test/keys#1", "a/b:c", "schl\u00fcssel", "with a space", "x" * 200]


@pytest.fixture
def issuer(tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    settings.JWT_KEYS_DIR, settings.JWT_ISSUER, settings.JWT_AUDIENCE = tmp_path, ISSUER, AUDIENCE
    monkeypatch.setattr(jwt_keys, "REREAD_SEC", 0)
    return Issuer(tmp_path)


def write_set(folder: Path, *entries: object) -> None:
    (folder / KEY_SET).write_text(json.dumps({"keys": entries}))


# --- files ---


def test_what_is_wrong_with_a_key_file_is_said(tmp_path: Path, settings: LazySettings) -> None:
    settings.JWT_KEYS_DIR = tmp_path
    assert [each.id for each in check_token_keys(None)] == ["coupons.E009"]
    key = new_key("ES256")
    wrong = {
        "key.pem": (b"", "KID.ALGORITHM.pem"),
        "a.RS256.pem": (public_pem(key), "RSA of 2048 bits"),
        "b.ES256.pem": (private_pem(key), "no public key"),
        "c.HS256.secret": (b"short", "32 bytes"),
        "d.HS256.secret": (public_pem(key), "public key"),
        "h.HS256.secret": (public_der(key), "public key"),
        "e.HS256.pem": (public_pem(key), ".secret"),
        "f.none.pem": (public_pem(key), "none of HS256"),
        "g.EdDSA.pem": (public_pem(key), "Ed25519"),
        "jwks.json": (b"<html>", "no JWK Set"),
    }
    for name, (content, _) in wrong.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good.ES256.pem").write_bytes(public_pem(key))

    found = {each.msg.partition(":")[0]: each.msg for each in check_token_keys(None)}

    assert set(found) == set(wrong)
    for name, (_, words) in wrong.items():
        assert words in found[name]


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"", b"\n"), (b"\n", b"")])
def test_a_binary_public_key_is_refused_as_a_secret(tmp_path: Path, before: bytes, after: bytes) -> None:
    """One of 43 ends with a byte that is a blank in ASCII."""
    key = next(key for key in iter(lambda: new_key("ES256"), None) if public_der(key)[-1:].isspace())
    (tmp_path / "a.HS256.secret").write_bytes(before + public_der(key) + after)

    keys, errors = read_keys(tmp_path)

    assert not keys
    assert "public key" in str(errors[0])


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        pytest.param(b"0123456789abcdef" * 2 + b"\r\n", b"0123456789abcdef" * 2, id="a text"),
        pytest.param(b"\n" + bytes(range(200, 230)) + b" ", b"\n" + bytes(range(200, 230)) + b" ", id="random bytes"),
    ],
)
def test_a_final_line_break_is_not_part_of_the_secret(tmp_path: Path, content: bytes, secret: bytes) -> None:
    (tmp_path / "a.HS256.secret").write_bytes(content)

    keys, _ = read_keys(tmp_path)

    assert keys["a"].key == secret


def test_two_keys_of_one_kid_are_refused(tmp_path: Path) -> None:
    for algorithm in ("ES256", "EdDSA"):
        (tmp_path / f"a.{algorithm}.pem").write_bytes(public_pem(new_key(algorithm)))
    write_set(tmp_path, public_jwk(new_key("ES256"), kid="a"))

    keys, errors = read_keys(tmp_path)

    assert list(keys) == ["a"]
    assert ["kid 'a'" in str(error) for error in errors] == [True, True]


def test_a_key_does_not_show_itself(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    issuer.add("a", "HS256")

    keys, _ = read_keys(tmp_path)

    assert SECRET not in repr(keys)


# --- jwks.json ---


@pytest.mark.parametrize("kid", ODD_KIDS)
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_key_of_the_set_may_have_any_kid(issuer: Issuer, algorithm: str, kid: str) -> None:
    key = issuer.keep(kid, algorithm, new_key(algorithm))
    write_set(issuer.folder, public_jwk(key, kid=kid))

    assert caller_of_token(issuer.token("anna", kid=kid)).user_id == "anna"


def test_the_set_may_have_a_secret(issuer: Issuer) -> None:
    issuer.keep("a", "HS256", SECRET)
    write_set(issuer.folder, secret_jwk(SECRET, kid="a"))

    assert caller_of_token(issuer.token("anna")).user_id == "anna"


@pytest.mark.attack("another algorithm than its key's", "RS256, for the kid of a secret in jwks.json", "401")
def test_a_key_of_the_set_fixes_its_algorithm(issuer: Issuer) -> None:
    issuer.keep("a", "RS256", new_key("RS256"))

    write_set(issuer.folder, secret_jwk(SECRET, kid="a"))
    with pytest.raises(NotKnown, match="its algorithm is not the one of its key"):
        caller_of_token(issuer.token("anna"))


def test_the_set_is_read_again_when_it_changes(issuer: Issuer) -> None:
    old, new = issuer.keep("old", "ES256", new_key("ES256")), issuer.keep("new", "ES256", new_key("ES256"))
    write_set(issuer.folder, public_jwk(old, kid="old"))
    assert caller_of_token(issuer.token("anna", kid="old")).user_id == "anna"

    write_set(issuer.folder, public_jwk(new, kid="new"))

    assert caller_of_token(issuer.token("anna", kid="new")).user_id == "anna"
    with pytest.raises(NotKnown, match="names no key"):
        caller_of_token(issuer.token("anna", kid="old"))


def test_a_key_for_encryption_is_left_out_without_a_word(tmp_path: Path) -> None:
    write_set(
        tmp_path,
        {**public_jwk(new_key("RS256"), kid="enc"), "use": "enc", "alg": "RSA-OAEP"},
        {**public_jwk(new_key("RS256"), kid="sig"), "use": "sig", "alg": "RS256"},
    )

    keys, errors = read_keys(tmp_path)

    assert (list(keys), errors) == (["sig"], [])


def test_the_only_key_may_have_no_kid(issuer: Issuer) -> None:
    key = new_key("ES256")
    write_set(issuer.folder, {name: value for name, value in public_jwk(key, kid="").items() if name != "kid"})
    issuer.keep("", "ES256", key)
    assert [*read_keys(issuer.folder)[0]] == [None]
    with pytest.raises(NotKnown, match="names no key"):  # its kid is the empty text
        caller_of_token(issuer.token("anna"))

    issuer.add("other", "ES256")

    keys, errors = read_keys(issuer.folder)
    assert ([*keys], len(errors)) == (["other"], 1)
    assert "a key has no kid" in str(errors[0])


Entry = Callable[[], Any]
BAD_ENTRIES: dict[str, tuple[Entry, str]] = {
    "no object": (lambda: "key", "no kid"),
    "an empty kid": (lambda: {"kty": "RSA", "kid": ""}, "no kid"),
    "a kid that is no text": (lambda: {"kty": "RSA", "kid": 7}, "no kid"),
    "no type": (lambda: {"kid": "a"}, "no JWK"),
    "an unknown type": (lambda: {"kid": "a", "kty": "PQ"}, "no JWK"),
    "no numbers": (lambda: {"kid": "a", "kty": "RSA"}, "no JWK"),
    "numbers that are none": (lambda: {"kid": "a", "kty": "RSA", "n": 5, "e": []}, "no JWK"),
    "an algorithm that is none": (lambda: {"kid": "a", "kty": "oct", "k": "AAAA", "alg": []}, "its alg is none of"),
    "alg none": (lambda: {"kid": "a", "kty": "oct", "k": "AAAA", "alg": "none"}, "its alg is none of"),
    "another type's algorithm": (lambda: {**public_jwk(new_key("ES256"), kid="a"), "alg": "RS256"}, "no JWK"),
    "an algorithm that is not taken": (
        lambda: {**public_jwk(new_key("RS256"), kid="a"), "alg": "PS256"},
        "its alg is none of",
    ),
    "another curve": (lambda: public_jwk(new_key("ES384"), kid="a"), "ES384 is none of"),
    "a short RSA key": (lambda: public_jwk(new_key("RS256", bits=1024), kid="a"), "RSA of 2048 bits"),
    "a short secret": (lambda: secret_jwk("x" * 31, kid="a"), "32 bytes"),
    "a secret that is a public key": (
        lambda: secret_jwk(public_pem(new_key("ES256")).decode(), kid="a"),
        "a public key",
    ),
    "no secret": (lambda: {"kid": "a", "kty": "oct"}, "no JWK"),
    "a private RSA key": (lambda: private_jwk(new_key("RS256"), kid="a"), "a private key"),
    "a private EC key": (lambda: private_jwk(new_key("ES256"), kid="a"), "a private key"),
    "a private Ed25519 key": (lambda: private_jwk(new_key("EdDSA"), kid="a"), "a private key"),
}


@pytest.mark.parametrize(("entry", "words"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_a_bad_entry_costs_itself_alone(
    issuer: Issuer, caplog: pytest.LogCaptureFixture, entry: Entry, words: str
) -> None:
    good = issuer.keep("good", "ES256", new_key("ES256"))
    write_set(issuer.folder, entry(), public_jwk(good, kid="good"))

    assert caller_of_token(issuer.token("anna")).user_id == "anna"

    assert "callers.bad_key_file error=jwks.json, key 1: " in caplog.text
    assert words in caplog.text


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"keys":{}}', "[" * 5_000, "\x00"])
def test_a_set_that_is_none_costs_itself_alone(issuer: Issuer, text: str) -> None:
    issuer.add("file", "ES256")
    (issuer.folder / KEY_SET).write_text(text)

    assert caller_of_token(issuer.token("anna")).user_id == "anna"
    assert [str(error) for error in read_keys(issuer.folder)[1]] == ['jwks.json: no JWK Set, which is {"keys": [...]}.']
