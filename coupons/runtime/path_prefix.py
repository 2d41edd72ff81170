"""Takes COUPON_PATH_PREFIX off a request's path, where the proxy has not done so."""

from django.conf import settings


def without_prefix(path: str) -> str:
    """Returns the path as the URLs of the service have it: with the prefix `/coupons`, /coupons/healthz is /healthz."""
    prefix: str = settings.PATH_PREFIX
    if prefix and path.startswith(prefix) and path[len(prefix) :][:1] in ("", "/"):
        return path[len(prefix) :] or "/"
    return path
