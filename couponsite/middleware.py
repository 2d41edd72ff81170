"""Runs the admin's middleware for all pages but the API, which has no sessions, forms, frames or messages.

The check of the Host is for all but the probes.
"""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponsePermanentRedirect
from django.middleware import clickjacking, common, csrf
from django.utils.deprecation import MiddlewareMixin

from coupons.api.client_address import came_through_proxy
from coupons.api.health import PROBES
from coupons.runtime.text import make_visible

API_PREFIX = "/api/v1/"


class _SkipsApi(MiddlewareMixin):
    api_prefix: ClassVar = "/api/"

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(self.api_prefix):
            return self.get_response(request)  # type: ignore[return-value]
        return super().__call__(request)  # type: ignore[return-value]


def _skipping_api(middleware: type[MiddlewareMixin]) -> type[Any]:
    """Makes a subclass, as Django's system checks look for the middleware by its class."""
    return type(middleware.__name__, (_SkipsApi, middleware), {})


SessionMiddleware = _skipping_api(sessions.SessionMiddleware)
# It still checks every view; the API's views are exempt themselves, as they accept no cookies.
CsrfViewMiddleware = _skipping_api(csrf.CsrfViewMiddleware)
AuthenticationMiddleware = _skipping_api(auth.AuthenticationMiddleware)
MessageMiddleware = _skipping_api(messages.MessageMiddleware)
XFrameOptionsMiddleware = _skipping_api(clickjacking.XFrameOptionsMiddleware)


class CommonMiddleware(common.CommonMiddleware):
    """Refuses an unknown Host, but not to probes: kubelet and Prometheus send a pod's address, HTTP/1.0 sends none.

    Nothing in the probes' answers depends on the Host.
    """

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        return None if request.path_info in PROBES else super().process_request(request)


class ContentSecurityPolicyMiddleware(_SkipsApi):
    """Sets one policy for all pages, the API's documentation included. Django 6 will have a middleware for it."""

    api_prefix = API_PREFIX

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not (settings.DEBUG and response.status_code == 500):  # Django's debug page has inline styles and scripts
            response.headers.setdefault("Content-Security-Policy", settings.CONTENT_SECURITY_POLICY)
        return response


class VisibleTextMiddleware(_SkipsApi):
    """Makes invisible characters visible, also those that reverse the direction of text, in all pages of the admin.

    Names, reasons and payloads come from outside and appear in titles, links, messages and Django's templates; a pass
    over the finished page misses none of them. (The line ends of forms are a carriage return and a line feed.)
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if isinstance(response, HttpResponse) and response.get("Content-Type", "").startswith("text/html"):
            text = response.content.decode(response.charset).replace("\r\n", "\n")
            response.content = make_visible(text).encode(response.charset)
        return response


class TrustedProxyMiddleware(_SkipsApi):
    """Drops `X-Forwarded-Proto` unless a trusted proxy sent it, as Django believes every client.

    Skips the API, where nothing depends on the header: it has no redirects, cookies or forms.
    """

    api_prefix = API_PREFIX

    def process_request(self, request: HttpRequest) -> None:
        if "HTTP_X_FORWARDED_PROTO" in request.META and not came_through_proxy(request):
            del request.META["HTTP_X_FORWARDED_PROTO"]
