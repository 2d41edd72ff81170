"""Django's middleware of the admin, kept off the API's path: there is no session, form, frame or message there."""

from collections.abc import Callable
from typing import ClassVar

from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware import clickjacking, csrf
from django.utils.deprecation import MiddlewareMixin

from coupons.api.client_address import came_through_proxy
from coupons.runtime.text import make_visible

API_PREFIX = "/api/v1/"


class _SkipsApi(MiddlewareMixin):
    api_prefix: ClassVar = "/api/"

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(self.api_prefix):
            return self.get_response(request)  # type: ignore[return-value]
        return super().__call__(request)  # type: ignore[return-value]


class SessionMiddleware(_SkipsApi, sessions.SessionMiddleware):
    pass


class CsrfViewMiddleware(_SkipsApi, csrf.CsrfViewMiddleware):
    """Its check of a view stays for all: the API's views are exempt by themselves, as they take no cookies."""


class AuthenticationMiddleware(_SkipsApi, auth.AuthenticationMiddleware):
    pass


class MessageMiddleware(_SkipsApi, messages.MessageMiddleware):
    pass


class XFrameOptionsMiddleware(_SkipsApi, clickjacking.XFrameOptionsMiddleware):
    pass


class ContentSecurityPolicyMiddleware(_SkipsApi):
    """One policy for all pages, those about the API too. Django 6 brings a middleware for it; then this one goes."""

    api_prefix = API_PREFIX

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not (settings.DEBUG and response.status_code == 500):  # Django's own page for developers is all inline
            response.headers.setdefault("Content-Security-Policy", settings.CONTENT_SECURITY_POLICY)
        return response


class VisibleTextMiddleware(_SkipsApi):
    """Whatever text got onto a page of the admin, by whichever template: nothing in it is unseen or turns lines round.

    Names, reasons and payloads come from outside and stand in titles, links, messages and Django's own templates; one
    look at the finished page forgets none of them. (A form's line ends are a carriage return and a line feed.)
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if isinstance(response, HttpResponse) and response.get("Content-Type", "").startswith("text/html"):
            text = response.content.decode(response.charset).replace("\r\n", "\n")
            response.content = make_visible(text).encode(response.charset)
        return response


def trust_only_proxies(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """`X-Forwarded-Proto` of anybody else is dropped: Django believes whoever sends it.

    Not on the API's path, where nothing hangs on it: no redirect, no cookie, no form.
    """

    def answer(request: HttpRequest) -> HttpResponseBase:
        told = "HTTP_X_FORWARDED_PROTO" in request.META and not request.path_info.startswith(API_PREFIX)
        if told and not came_through_proxy(request):
            del request.META["HTTP_X_FORWARDED_PROTO"]
        return get_response(request)

    return answer
