"""Django's middleware of the admin, kept off the API's path: there is no session, form, frame or message there."""

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware import clickjacking, csrf
from django.utils.deprecation import MiddlewareMixin

API_PREFIX = "/api/"


class _NotForTheApi(MiddlewareMixin):
    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(API_PREFIX):
            return self.get_response(request)  # type: ignore[return-value]
        return super().__call__(request)  # type: ignore[return-value]


class SessionMiddleware(_NotForTheApi, sessions.SessionMiddleware):
    pass


class CsrfViewMiddleware(_NotForTheApi, csrf.CsrfViewMiddleware):
    """Its check of a view stays for all: the API's views are exempt by themselves, as they take no cookies."""


class AuthenticationMiddleware(_NotForTheApi, auth.AuthenticationMiddleware):
    pass


class MessageMiddleware(_NotForTheApi, messages.MessageMiddleware):
    pass


class XFrameOptionsMiddleware(_NotForTheApi, clickjacking.XFrameOptionsMiddleware):
    pass
