"""Tells operators that a button did nothing: the session had ended, or the page was older than the last log-in."""

from django.contrib import admin, messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import REASON_NO_CSRF_COOKIE
from django.urls import reverse
from django.views import csrf

LOGGED_OUT = "Nothing was done: you were logged out."
SENT_TWICE = "You were logged out. If you sent your new password twice, it is changed: log in with it."
NO_ACCESS = "Nothing was done: your account may not use these pages any more."
OLDER_PAGE = "Nothing was done: this page was older than the last log-in. Here it is again."
OUTDATED = "CSRF token from POST incorrect."  # each log-in changes the token; one without a token is no form of ours


def refuse(request: HttpRequest) -> HttpResponse:
    """Redirects a POST without a session to the log-in, and from there to the page that it was sent from. Both show the
    message (log_in.py)."""
    if request.path == reverse("admin:logout"):
        return HttpResponseRedirect(reverse("admin:index"))
    messages.error(request, _text(request))
    return redirect_to_login(request.get_full_path(), reverse("admin:login"))


def _text(request: HttpRequest) -> str:
    if request.user.is_authenticated:
        return NO_ACCESS
    # A new password ends the session that the second click of a double click still names.
    return SENT_TWICE if request.path == reverse("admin:password_change") else LOGGED_OUT


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answers people whose page is outdated as `refuse` does, and all others as Django does. It is Django's
    CSRF_FAILURE_VIEW."""
    if request.path.startswith(reverse("admin:index")) and reason in (OUTDATED, REASON_NO_CSRF_COOKIE):
        if not admin.site.has_permission(request) and request.path != reverse("admin:login"):
            return refuse(request)
        if reason == OUTDATED:
            messages.error(request, OLDER_PAGE)
            return HttpResponseRedirect(request.get_full_path())
    return csrf.csrf_failure(request, reason)
