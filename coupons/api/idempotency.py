"""Lets a client repeat a request that creates something: the Idempotency-Key header.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ has the header's rules; a key is any text,
in quotes or not. Each caller has keys of its own, and they are remembered for a day.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from rest_framework.exceptions import APIException, ValidationError

from coupons.api.problems import RETRY_SOON_SEC, Code
from coupons.models import GivenAnswer
from coupons.runtime import given_answers

KEY = re.compile("^[!-~]{1,255}$")


class KeyInUse(APIException):
    status_code, problem, wait = 409, Code.KEY_IN_USE, RETRY_SOON_SEC
    default_detail = "Repeat the same request in a moment, and get the answer of the first one."


class KeyReused(APIException):
    status_code, problem = 422, Code.KEY_REUSED
    default_detail = "The first request with this key had another body. Nothing was done."


def read_idempotency_key(headers: Mapping[str, Any]) -> str | None:
    """Returns the key, None without the header. Raises ValidationError, since a key that is not understood must not
    seem to protect."""
    key = headers.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not KEY.fullmatch(key):
        raise ValidationError({"Idempotency-Key": ["Must be 1-255 characters of ASCII without blanks."]})
    return key


def answer_once(*, caller: str, key: str | None, asked: object, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the answer's document, for a repeat the one of the first time. Raises KeyInUse or KeyReused.

    What `answer` creates and the document are committed together: a process that dies leaves both or nothing.
    """
    if key is None:
        return answer()
    given_answers.delete_expired()
    name, request = given_answers.digest(caller, key), given_answers.digest(json.dumps(asked, sort_keys=True))
    with transaction.atomic(durable=True):
        if not given_answers.try_lock(name):
            raise KeyInUse
        if given := GivenAnswer.objects.filter(pk=name).first():
            if given.request != request:
                raise KeyReused
            return dict(json.loads(bytes(given.answer or b"{}")))
        document = answer()
        GivenAnswer.objects.create(key=name, request=request, answer=json.dumps(document).encode())
        return document
