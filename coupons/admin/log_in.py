"""Django's log-in with limits on attempts (docs/decisions/0018).

A wrong name, a wrong password and a user who is not active all get the same answer after one hash, so the answer does
not reveal which names exist. Only with the right password does it say that a user lacks the staff status. Beyond a
limit the answer is 429 before any hash: guessing takes no CPU from admission.
"""

import logging
import math
import secrets
import threading
from typing import Any, cast

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import get_user_model
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from coupons.admin.log_in_counts import TooManyAttempts, count_attempt, give_back
from coupons.api.client_address import Address, client_address

logger = logging.getLogger(__name__)
SALT = "coupons: a browser in which this user has logged in"
BROWSER_COOKIE_MAX_AGE_SEC = 365 * 24 * 3600
NOT_STAFF = (
    "Your password is right, but your account may not use these pages: it lacks the “Staff status”. Ask whoever "
    "manages the users to tick it; a group such as operators is not enough."
)
# A hash keeps a core busy for half a second, so at most two threads of a process hash at once.
_hash_slots = threading.BoundedSemaphore(2)


class LogInForm(AdminAuthenticationForm):
    retry_after_sec = 0
    """How long the browser should wait; 0 when no limit was reached."""

    def confirm_login_allowed(self, user: Any) -> None:
        """Django calls it after the password was right."""
        if user.is_active and not user.is_staff:
            raise ValidationError(NOT_STAFF, code="not_staff")
        super().confirm_login_allowed(user)

    def clean(self) -> dict[str, Any]:
        name = self.cleaned_data.get("username")
        if not name or not self.cleaned_data.get("password"):
            return super().clean()
        request = cast("HttpRequest", self.request)  # Django's view always passes it
        address = client_address(request)
        try:
            return self._try(name, address, known_browser(request, name))
        except TooManyAttempts as error:
            self.retry_after_sec = math.ceil(error.wait_sec)
            logger.warning("log_in.refused limit=%s address=%s", error.limit, address)
            minutes = math.ceil(error.wait_sec / 60)
            text = f"Too many attempts. Try again in {minutes} minute{'' if minutes == 1 else 's'}."
            raise ValidationError(text, code="too_many") from None

    def _try(self, name: str, address: Address | None, browser: str | None) -> dict[str, Any]:
        keys = count_attempt(name=name, address=address, browser=browser)
        if not _hash_slots.acquire(blocking=browser is not None):
            raise TooManyAttempts("at once", 1)
        try:
            cleaned = super().clean()
        except ValidationError:
            # A name that does not exist may be a password in the wrong field, so the log leaves it out.
            known = get_user_model().objects.filter(username=name).exists()
            logger.warning("log_in.failed user=%s address=%s", name if known else "-", address)
            raise
        finally:
            _hash_slots.release()
        give_back(keys)
        return cleaned


def log_in(request: HttpRequest) -> HttpResponse:
    """Runs Django's view; answers 429 beyond a limit, and remembers a browser in which a user logged in."""
    response: HttpResponse = admin.site.login(request)
    if isinstance(response, TemplateResponse):
        # What is shown here is shown again on the page after the log-in: above all, that nothing was done.
        response.add_post_render_callback(lambda _: setattr(messages.get_messages(request), "used", False))
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
    """Returns the id of a browser in which this user has logged in before, by its signed cookie.

    The cookie grants no access; such a browser only has a limit of its own.
    """
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
    return f"{settings.COOKIE_PREFIX}known"


admin.site.login_form = LogInForm
