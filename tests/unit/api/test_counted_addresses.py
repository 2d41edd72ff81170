"""Which addresses the limits count, and as what."""

from ipaddress import ip_address

import pytest

from coupons.api.client_address import counted_as


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("2001:4860:4860::8888", "2001:4860:4860::/64"),
        ("10.1.2.3", None),
        ("100.64.0.1", None),
        ("192.168.0.1", None),
        ("::1", None),
        ("fd00::1", None),
    ],
)
def test_public_addresses_count(text: str, key: str | None) -> None:
    assert counted_as(ip_address(text)) == key


def test_a_request_without_an_address_does_not_count() -> None:
    assert counted_as(None) is None
