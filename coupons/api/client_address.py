"""Where a request comes from. `X-Forwarded-For` is what anybody may write; only a trusted proxy's entry counts."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from django.conf import settings
from django.http import HttpRequest

Address = IPv4Address | IPv6Address


def client_address(request: HttpRequest) -> Address | None:
    """The nearest address that is no trusted proxy (COUPON_TRUSTED_PROXIES), None when the server gives none.

    Each proxy appends whom it was called by, so the header is read from its end, for as long as the one before can be
    trusted; what a client wrote into it stands further left and is never reached.
    """
    address = _parse(request.META.get("REMOTE_ADDR", ""))
    entries = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while address is not None and entries and _is_trusted(address):
        nearer = _parse(entries.pop())
        if nearer is None:
            return address
        address = nearer
    return address


def came_through_proxy(request: HttpRequest) -> bool:
    """Whether the connection is a trusted proxy's."""
    address = _parse(request.META.get("REMOTE_ADDR", ""))
    return address is not None and _is_trusted(address)


def _is_trusted(address: Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES if network.version == address.version)


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
