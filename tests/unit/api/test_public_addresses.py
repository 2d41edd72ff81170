"""Which addresses are the internet's: as Python's own `is_global` says, at both ends of every network."""

from ipaddress import IPv4Address, ip_address

import pytest

from coupons.api.client_address import is_public

NETWORKS = [
    ("0.0.0.1", "0.255.255.255"), ("10.0.0.0", "10.255.255.255"), ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"), ("169.254.0.0", "169.254.255.255"), ("172.16.0.0", "172.31.255.255"),
    ("192.0.2.0", "192.0.2.255"), ("192.168.0.0", "192.168.255.255"), ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"), ("203.0.113.0", "203.0.113.255"), ("240.0.0.0", "255.255.255.255"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last"), NETWORKS)
def test_the_ends_of_a_network_and_their_neighbours(first: str, last: str) -> None:
    low, high = int(IPv4Address(first)), int(IPv4Address(last))
    numbers = [number for number in (low - 1, low, (low + high) // 2, high, high + 1) if 0 <= number < 2**32]
    addresses = [IPv4Address(number) for number in numbers]

    assert [is_public(address) for address in addresses] == [address.is_global for address in addresses]
    assert not is_public(IPv4Address(low))


@pytest.mark.parametrize(
    ("text", "public"),
    [("8.8.8.8", True), ("2001:4860:4860::8888", True), ("::1", False), ("fd00::1", False), ("192.0.0.1", False)],
)
def test_one_of_each(text: str, public: bool) -> None:
    assert is_public(ip_address(text)) is public
