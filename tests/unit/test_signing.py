"""The signature of a message: whatever is not exactly ours is told apart, and says why without a secret."""

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from coupons.messaging.kafka import Headers
from coupons.messaging.messages import InvalidMessage, Place, Ticket, encode
from coupons.messaging.signing import HEADER, open_message, open_places, sign
from coupons.models import FailCode
from couponsite.env import derived_secret, secrets_by_id
from tests.unit.test_messages import TICKET

OLD, NEW = b"an old secret of thirty-two bytes!", b"a new secret of thirty-two bytes!!"
PAYLOAD = encode(TICKET)
PLACE = Place(TICKET.campaign_id, TICKET.user_id, TICKET.sequence, TICKET.epoch)


@pytest.fixture(autouse=True)
def keys(settings: LazySettings) -> None:
    settings.MESSAGE_KEYS = {"new": NEW, "old": OLD}


def refused(payload: bytes, headers: Headers) -> str:
    with pytest.raises(InvalidMessage) as caught:
        open_message(payload, headers)
    assert caught.value.code is FailCode.UNAUTHENTIC
    assert caught.value.named == {}, "nothing of it is read"
    [outcome] = open_places([(payload, headers)])
    assert isinstance(outcome, InvalidMessage)
    assert (outcome.code, str(outcome), outcome.named) == (caught.value.code, str(caught.value), {})
    return str(caught.value)


def test_the_first_key_signs_and_every_key_verifies(settings: LazySettings) -> None:
    assert b"hmac-sha256 new " in repr(sign(PAYLOAD)).encode()
    settings.MESSAGE_KEYS = {"old": OLD}
    before = sign(PAYLOAD)
    settings.MESSAGE_KEYS = {"new": NEW, "old": OLD}

    assert open_message(PAYLOAD, before) == TICKET == open_message(PAYLOAD, sign(PAYLOAD))
    assert open_places([(PAYLOAD, before), (PAYLOAD, sign(PAYLOAD))]) == [PLACE, PLACE]
    settings.MESSAGE_KEYS = {"new": NEW}
    assert "'old', not known" in refused(PAYLOAD, before)


def test_other_headers_do_no_harm() -> None:
    headers: Headers = [("trace", b"x"), *sign(PAYLOAD), ("empty", None)]

    assert open_message(PAYLOAD, headers) == TICKET
    assert open_places([(PAYLOAD, headers)]) == [PLACE]


def test_every_changed_bit_of_the_payload_is_noticed() -> None:
    headers = sign(PAYLOAD)
    for place in range(len(PAYLOAD)):
        changed = PAYLOAD[:place] + bytes([PAYLOAD[place] ^ 1]) + PAYLOAD[place + 1 :]
        assert "wrong" in refused(changed, headers)


def test_another_user_s_signature_is_of_no_use() -> None:
    other = Ticket(TICKET.campaign_id, "43", TICKET.sequence, timezone.now())

    assert "wrong" in refused(PAYLOAD, sign(encode(other)))


_SIGNATURE = b"hmac-sha256 new " + b"0" * 64


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([], "0 headers"),
        ([("Signature", _SIGNATURE)], "0 headers"),
        ([(HEADER, _SIGNATURE), (HEADER, _SIGNATURE)], "2 headers"),
        ([(HEADER, None)], "does not begin"),
        ([(HEADER, b"")], "does not begin"),
        ([(HEADER, b"hmac-md5 new 00")], "does not begin"),
        ([(HEADER, b"hmac-sha256")], "key ''"),
        ([(HEADER, b"hmac-sha256  " + b"0" * 64)], "key ''"),
        ([(HEADER, b"hmac-sha256 \xff\x00 00")], "not known"),
        ([(HEADER, b"hmac-sha256 " + b"k" * 1_000_000)], "not known"),
        ([(HEADER, b"hmac-sha256 new")], "wrong"),
        ([(HEADER, _SIGNATURE)], "wrong"),
        ([(HEADER, b"hmac-sha256 new " + b"\xff" * 64)], "wrong"),
    ],
)
def test_what_is_no_signature_of_ours(headers: Headers, words: str) -> None:
    reason = refused(PAYLOAD, headers)

    assert words in reason
    assert len(reason) < 400


def test_a_signed_message_that_is_no_ticket_is_an_invalid_message() -> None:
    with pytest.raises(InvalidMessage) as caught:
        open_message(b"no JSON", sign(b"no JSON"))

    assert caught.value.code is FailCode.INVALID_MESSAGE


def test_the_setting_names_what_is_wrong_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    good = "x" * 32
    monkeypatch.setenv("KEYS", f"b={good};a={good}y")
    assert list(secrets_by_id("KEYS", otherwise=b"")) == ["b", "a"], "in the order of the setting"
    monkeypatch.setenv("KEYS", "")
    assert secrets_by_id("KEYS", otherwise=b"d") == {"default": b"d"}
    for wrong in ("a=short", f"a b={good}", f"{'k' * 65}={good}", good):
        monkeypatch.setenv("KEYS", wrong)
        with pytest.raises(ImproperlyConfigured, match="KEYS") as caught:
            secrets_by_id("KEYS", otherwise=b"")
        assert "short" not in str(caught.value)


def test_a_derived_secret_is_its_purpose_s_own() -> None:
    assert len({derived_secret(key, purpose) for key in ("a", "b") for purpose in ("x", "y")}) == 4
