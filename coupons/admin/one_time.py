"""Lets each form of the admin act once: a double click, F5 or the browser's back button sends the same form again.

A form carries an id (forms.ReasonField shows it, as nothing is done without a reason). The first POST with an id takes
it, and keeps its answer: where it leads to and its messages, or its page. A repeat gets that answer. So a double click
on "Save" shows what one click shows, also a new API key, which no one could read otherwise.

The answer is encrypted with a key that comes of the form's id and the Django secret. The table has only a hash of the
id, so neither a copy of the database nor the secret, nor both, give an API key away; the browser that made it can.
"""

import base64
import json
import secrets
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, cast
from urllib.parse import urlencode

from cryptography.fernet import Fernet
from django.contrib import messages
from django.contrib.messages.storage.base import BaseStorage
from django.contrib.messages.storage.cookie import MessageDecoder, MessageEncoder
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import SimpleTemplateResponse
from django.utils.crypto import salted_hmac

from coupons.models import GivenAnswer
from coupons.runtime import given_answers

FIELD = "form_id"
WAIT_SEC, STEP_SEC = 10.0, 0.05  # of a repeat for the first request's answer
NOT_AGAIN = "This form had been sent before, so nothing was done again."
OTHER_VALUES = (
    "This form had been sent before, with other values. Nothing was done this time: here are the current ones."
)
NOT_KNOWN = (
    "This form had been sent before, and what became of it is not known. Nothing was done again: look at the current "
    "values before you repeat it."
)
TOO_OLD = "Nothing was done: this page was opened more than a day ago. Here it is again."
_signer = TimestampSigner(salt="coupons: a form of the admin")
View = Callable[..., HttpResponse]


def new_form_id() -> str:
    """Signed with its time: a form may be sent for as long as its answer is kept, and not later."""
    return _signer.sign(secrets.token_urlsafe(16))


def keep(page: HttpResponse) -> HttpResponse:
    """Marks a page that is the result of a form, for `once`. A redirect is one anyway; other pages ask or refuse."""
    page.is_result = True  # type: ignore[attr-defined]
    return page


def once(view: View) -> View:
    """Wraps a view: a POST with the id of a form that was sent before gets the first answer."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        form_id = request.POST.get(FIELD, "") if request.method == "POST" else ""
        if not form_id:
            return view(request, *args, **kwargs)
        try:
            _signer.unsign(form_id, max_age=given_answers.KEPT)
        except BadSignature:
            messages.error(request, TOO_OLD)
            return HttpResponseRedirect(request.get_full_path())
        given_answers.delete_expired()
        key, digest = given_answers.digest(request.user.get_username(), form_id), _digest_of(request, form_id)
        while True:
            # Crash from here on => a repeat is told that the outcome is not known.
            row, is_first = GivenAnswer.objects.get_or_create(key=key, defaults={"request": digest})
            if is_first:
                return _answer(row, form_id, request, view(request, *args, **kwargs))
            if _is_answered(row):
                return _repeat(row, form_id, request, same=row.request == digest)

    return inner


def _answer(row: GivenAnswer, form_id: str, request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Keeps the response if it is a result. A page that asks or refuses can be sent again."""
    if isinstance(response, SimpleTemplateResponse):
        response.render()
    if not isinstance(response, HttpResponseRedirect) and not hasattr(response, "is_result"):
        row.delete()
        return response
    told = cast("BaseStorage", messages.get_messages(request))
    answer = {
        "location": getattr(response, "url", ""),
        "page": response.content.decode(response.charset),
        "messages": json.dumps(list(told), cls=MessageEncoder),
    }
    told.used = False  # the next page shows them
    row.answer = _cipher(form_id).encrypt(json.dumps(answer).encode())
    row.save(update_fields=["answer"])
    return response


def _is_answered(row: GivenAnswer) -> bool:
    """Waits for the answer. False: the first request was refused, so this one may be done."""
    deadline = time.monotonic() + WAIT_SEC
    while row.answer is None and time.monotonic() < deadline:
        time.sleep(STEP_SEC)
        found = GivenAnswer.objects.filter(pk=row.pk).first()
        if found is None:
            return False
        row.answer = found.answer
    return True


def _repeat(row: GivenAnswer, form_id: str, request: HttpRequest, *, same: bool) -> HttpResponse:
    if row.answer is None:
        messages.warning(request, NOT_KNOWN)
        return HttpResponseRedirect(request.get_full_path())
    answer = json.loads(_cipher(form_id).decrypt(bytes(row.answer)))
    if not same:
        messages.warning(request, OTHER_VALUES)
        return HttpResponseRedirect(answer["location"] or request.get_full_path())
    if not answer["location"]:
        return HttpResponse(answer["page"], headers={"Cache-Control": "no-store"})
    for each in json.loads(answer["messages"], cls=MessageDecoder):
        messages.add_message(request, each.level, each.message, each.extra_tags)
    messages.info(request, NOT_AGAIN)
    return HttpResponseRedirect(answer["location"])


def _digest_of(request: HttpRequest, form_id: str) -> str:
    """Hashes the form with its id, which the table does not have: a form may hold a password, which could be guessed
    by a plain hash."""
    sent = sorted((name, values) for name, values in request.POST.lists() if name not in (FIELD, "csrfmiddlewaretoken"))
    return given_answers.digest(form_id, request.get_full_path(), urlencode(sent, doseq=True))


def _cipher(form_id: str) -> Fernet:
    key = salted_hmac("coupons: the answer to a form", form_id, algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(key))
