"""The admin's log-in: Django's, limited by attempts (docs/decisions/0018).

Wrong name, wrong password, no staff and switched off are one answer after one hash, so nobody learns which names there
are. Beyond a limit the answer is 429 before any hash: guessing takes no CPU from admission.
"""

import logging
import math
import secrets
import threading
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import get_user_model
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse

from coupons.admin.log_in_counts import TooManyAttempts, count_attempt, give_back
from coupons.api.client_address import client_address

logger = logging.getLogger(__name__)
SALT = "coupons: a browser in which this user has logged in"
BROWSER_COOKIE_MAX_AGE_SEC = 365 * 24 * 3600
# A hash keeps a core busy for half a second; more threads of a process than these never do so at once.
_hash_slots = threading.BoundedSemaphore(2)


class LogInForm(AdminAuthenticationForm):
    retry_after_sec = 0
    """How long to wait; 0 when no limit was reached."""

    def clean(self) -> dict[str, Any]:
        name = self.cleaned_data.get("username")
        if not name or not self.cleaned_data.get("password"):
            return super().clean()
        try:
            return self._try(name)
        except TooManyAttempts as error:
            self.retry_after_sec = math.ceil(error.wait_sec)
            logger.warning("log_in.refused limit=%s address=%s", error.limit, client_address(_request_of(self)))
            minutes = math.ceil(error.wait_sec / 60)
            text = f"Too many attempts. Try again in {minutes} minute{'' if minutes == 1 else 's'}."
            raise ValidationError(text, code="too_many") from None

    def _try(self, name: str) -> dict[str, Any]:
        browser = known_browser(_request_of(self), name)
        keys = count_attempt(name=name, address=client_address(_request_of(self)), browser=browser)
        if not _hash_slots.acquire(blocking=browser is not None):
            raise TooManyAttempts("at once", 1)
        try:
            cleaned = super().clean()
        except ValidationError:
            # A name that nobody has may be a password in the wrong field.
            known = get_user_model().objects.filter(username=name).exists()
            logger.warning(
                "log_in.failed user=%s address=%s", name if known else "-", client_address(_request_of(self))
            )
            raise
        finally:
            _hash_slots.release()
        give_back(keys)
        return cleaned


def log_in(request: HttpRequest) -> HttpResponse:
    """Django's view; 429 beyond a limit, and a browser that got in is known from then on."""
    response: HttpResponse = admin.site.login(request)
    if request.method != "POST":
        return response
    form = (getattr(response, "context_data", None) or {}).get("form")
    if isinstance(form, LogInForm) and form.retry_after_sec:
        response.status_code = 429
        response["Retry-After"] = str(form.retry_after_sec)
    elif form is None and request.user.is_authenticated:
        _remember(response, request.user.get_username())
    return response


def known_browser(request: HttpRequest, name: str) -> str | None:
    """The id of a browser in which this very user has logged in before. It opens nothing: it is a limit of its own."""
    try:
        known = signing.loads(request.COOKIES.get(_cookie_name(), ""), salt=SALT, max_age=BROWSER_COOKIE_MAX_AGE_SEC)
    except signing.BadSignature:
        return None
    return str(known["browser"]) if known["user"] == name else None


def _remember(response: HttpResponse, name: str) -> None:
    value = signing.dumps({"user": name, "browser": secrets.token_hex(8)}, salt=SALT)
    response.set_cookie(
        _cookie_name(), value, max_age=BROWSER_COOKIE_MAX_AGE_SEC, secure=settings.HTTPS, httponly=True, samesite="Lax"
    )


def _cookie_name() -> str:
    return "__Host-known" if settings.HTTPS else "known"


def _request_of(form: LogInForm) -> HttpRequest:
    request = form.request
    assert request is not None, "Django's view always gives it"  # noqa: S101  for the type checker
    return request


admin.site.login_form = LogInForm
