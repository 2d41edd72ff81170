"""The signature of a message: whatever is not exactly ours is told apart, and says why without a secret."""

import re

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from coupons.messaging.kafka import Headers
from coupons.messaging.messages import InvalidMessage, Ticket, encode
from coupons.messaging.signing import HEADER, UnknownKey, open_message, sign
from coupons.models import FailCode
from couponsite.env import derived_secret, keys_with_fingerprints, secrets_by_id
from tests.support.tickets import TICKET

OLD, NEW = b"an old secret of thirty-two bytes!", b"a new secret of thirty-two bytes!!"
PAYLOAD = encode(TICKET)


@pytest.fixture(autouse=True)
def keys(settings: LazySettings) -> None:
    settings.MESSAGE_KEYS = {"new": NEW, "old": OLD}


def refused(payload: bytes, headers: Headers) -> str:
    with pytest.raises(InvalidMessage) as caught:
        open_message(payload, headers)
    assert caught.value.code is FailCode.UNAUTHENTIC
    assert caught.value.named == {}, "nothing of it is read"
    return str(caught.value)


def unknown_key(payload: bytes, headers: Headers) -> UnknownKey:
    with pytest.raises(UnknownKey) as caught:
        open_message(payload, headers)
    return caught.value


def test_the_first_key_signs_and_every_key_verifies(settings: LazySettings) -> None:
    assert b"hmac-sha256 new " in repr(sign(PAYLOAD)).encode()
    settings.MESSAGE_KEYS = {"old": OLD}
    before = sign(PAYLOAD)
    settings.MESSAGE_KEYS = {"new": NEW, "old": OLD}

    assert open_message(PAYLOAD, before) == TICKET == open_message(PAYLOAD, sign(PAYLOAD))
    settings.MESSAGE_KEYS = {"new": NEW}
    assert "key old, which is not known here" in refused(PAYLOAD, before)


def test_an_unknown_key_is_told_from_a_wrong_signature(settings: LazySettings) -> None:
    """Also where a secret has changed under its name. What such a message says can be looked at, unverified."""
    settings.MESSAGE_KEYS = keys_with_fingerprints({"2026": OLD}, derived=[])
    before = sign(PAYLOAD)
    settings.MESSAGE_KEYS = keys_with_fingerprints({"2026": NEW}, derived=[])
    after = sign(PAYLOAD)

    unknown = unknown_key(PAYLOAD, before)

    assert (unknown.ticket, unknown.named) == (TICKET, {})
    assert unknown.key_id.encode() in repr(before).encode()
    assert unknown_key(b"no JSON", before).ticket is None
    assert "wrong" in refused(PAYLOAD + b" ", after)


def test_derived_keys_verify_beside_named_ones_and_former_ones_too(settings: LazySettings) -> None:
    """A message key for the first time, another Django secret, and a derived key that was written down."""
    today, former = (derived_secret(key, "x") for key in ("today", "former"))
    settings.MESSAGE_KEYS = keys_with_fingerprints({}, derived=[former])
    by_former = sign(PAYLOAD)
    text = former.decode()

    for keys in (
        keys_with_fingerprints({"2026": NEW}, derived=[former]),
        keys_with_fingerprints({"2026": NEW}, derived=[today, former]),
        keys_with_fingerprints({"2026": NEW, "default": text.encode()}, derived=[today]),
    ):
        settings.MESSAGE_KEYS = keys
        assert sign(PAYLOAD) != by_former
        assert open_message(PAYLOAD, by_former) == TICKET
    settings.MESSAGE_KEYS = keys_with_fingerprints({"2026": NEW}, derived=[today])
    assert unknown_key(PAYLOAD, by_former).ticket == TICKET


def test_a_signature_without_fingerprint_is_of_an_unknown_key(settings: LazySettings) -> None:
    """As versions of before December 2026 sign."""
    settings.MESSAGE_KEYS = {"2026": OLD}
    by_old_version = sign(PAYLOAD)

    settings.MESSAGE_KEYS = keys_with_fingerprints({"2026": OLD}, derived=[])
    assert unknown_key(PAYLOAD, by_old_version).ticket == TICKET


def test_other_headers_do_no_harm() -> None:
    headers: Headers = [("trace", b"x"), *sign(PAYLOAD), ("empty", None)]

    assert open_message(PAYLOAD, headers) == TICKET


def test_every_changed_bit_of_the_payload_is_noticed() -> None:
    headers = sign(PAYLOAD)
    for place in range(len(PAYLOAD)):
        changed = PAYLOAD[:place] + bytes([PAYLOAD[place] ^ 1]) + PAYLOAD[place + 1 :]
        assert "wrong" in refused(changed, headers)


def test_every_changed_bit_of_the_signature_is_noticed() -> None:
    [(_, signature)] = sign(PAYLOAD)
    assert isinstance(signature, bytes)
    for place in range(len(signature)):
        changed = signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :]
        assert refused(PAYLOAD, [(HEADER, changed)])


def test_another_user_s_signature_is_of_no_use() -> None:
    other = Ticket(TICKET.campaign_id, "43", TICKET.sequence, timezone.now())

    assert "wrong" in refused(PAYLOAD, sign(encode(other)))


_ZEROS = b"0" * 64
_SIGNATURE = b"hmac-sha256 new " + _ZEROS


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([], "0 headers"),
        ([("Signature", _SIGNATURE)], "0 headers"),
        ([(HEADER, _SIGNATURE), (HEADER, _SIGNATURE)], "2 headers"),
        ([(HEADER, None)], "is not 'hmac-sha256 <key id>"),
        ([(HEADER, b"")], "is no"),
        ([(HEADER, b"hmac-md5 new " + _ZEROS)], "is no"),
        ([(HEADER, b"hmac-sha256")], "is no"),
        ([(HEADER, b"hmac-sha256  " + _ZEROS)], "is no"),
        ([(HEADER, b"hmac-sha256 \xff\x00 " + _ZEROS)], "is no"),
        ([(HEADER, b"hmac-sha256 " + b"k" * 1_000_000 + b" " + _ZEROS)], "is no"),
        ([(HEADER, b"hmac-sha256 new")], "is no"),
        ([(HEADER, _SIGNATURE + b"\n")], "is no"),
        ([(HEADER, b"hmac-sha256 new " + b"\xff" * 64)], "is no"),
        ([(HEADER, _SIGNATURE)], "wrong"),
        ([(HEADER, b"hmac-sha256 none " + _ZEROS)], "key none, which is not known"),
    ],
)
def test_what_is_no_signature_of_ours(headers: Headers, words: str) -> None:
    reason = refused(PAYLOAD, headers)

    assert words in reason
    assert len(reason) < 400


def test_a_signed_message_without_a_ticket_is_invalid() -> None:
    with pytest.raises(InvalidMessage) as caught:
        open_message(b"no JSON", sign(b"no JSON"))

    assert caught.value.code is FailCode.INVALID_MESSAGE


def test_the_setting_names_what_is_wrong_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    good = "x" * 32
    monkeypatch.setenv("KEYS", f"b={good};a={good}y")
    assert list(secrets_by_id("KEYS")) == ["b", "a"], "in the order of the setting"
    for wrong in ("a=short", f"a b={good}", f"{'k' * 65}={good}", good):
        monkeypatch.setenv("KEYS", wrong)
        with pytest.raises(ImproperlyConfigured, match="KEYS") as caught:
            secrets_by_id("KEYS")
        assert "short" not in str(caught.value)


def test_the_named_keys_come_first() -> None:
    keys = keys_with_fingerprints({"b": NEW, "a": NEW}, derived=[b"today", b"former"])

    assert [key_id.rpartition("-")[0] for key_id in keys] == ["b", "a", "default", "default"]
    assert list(keys.values()) == [NEW, NEW, b"today", b"former"]
    assert all(re.fullmatch(r"[a-z]+-[0-9a-f]{8}", key_id) for key_id in keys)


def test_a_derived_secret_is_its_purpose_s_own() -> None:
    assert len({derived_secret(key, purpose) for key in ("a", "b") for purpose in ("x", "y")}) == 4
