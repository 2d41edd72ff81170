"""Finds a client's address. Any client may send `X-Forwarded-For`, so only a trusted proxy's entry counts."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

Address = IPv4Address | IPv6Address


def client_address(request: HttpRequest) -> Address | None:
    return nearest_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def nearest_address(connected: str, forwarded_for: str) -> Address | None:
    """Returns the nearest address that is no trusted proxy (COUPON_TRUSTED_PROXIES), None when the server gives none.

    Each proxy appends the address that called it. Reading starts at the header's end and goes on while the address
    before is a trusted proxy's, so it never reaches entries that a client has written further left.
    """
    address = _parse(connected)
    entries = forwarded_for.split(",")
    while address is not None and entries and _is_trusted(address):
        nearer = _parse(entries.pop())
        if nearer is None:
            return address
        address = nearer
    return address


def came_through_proxy(request: HttpRequest) -> bool:
    address = _parse(request.META.get("REMOTE_ADDR", ""))
    return address is not None and _is_trusted(address)


@lru_cache(maxsize=4_096)
def counted_as(address: Address | None) -> str | None:
    """Returns the key that limits count: the address, or its IPv6 /64, as one household or host has a whole /64.

    None is not counted: a private address is an undeclared proxy's or a test's, and stands for many users.
    """
    if address is None or not address.is_global:
        return None
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)


def _is_trusted(address: Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES if network.version == address.version)


@lru_cache(maxsize=4_096)
def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
