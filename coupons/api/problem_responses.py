"""Turns problems into HTTP answers: DRF's exception handler, Django's error pages for the API, and our own."""

import json
import logging
import math
import sys
import time
from collections import Counter
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views import defaults
from rest_framework import exceptions
from rest_framework.views import set_rollback

from coupons.api.problems import CONTENT_TYPE, KINDS, RETRY_SOON_SEC, SEND_CREDENTIALS, Code, Problem, retry_after
from coupons.errors import (
    DATABASE_DOWN,
    DatabaseUnavailable,
    OperatorError,
    RetryLater,
    Unconfirmed,
    one_line,
)
from coupons.redemption.coupon_life import Obstacle
from coupons.redemption.redeem import HoldEnded, NoSuchCoupon, NotRedeemable, RedemptionRefused

logger = logging.getLogger(__name__)
_encoder = json.JSONEncoder(separators=(",", ":"))  # `json.dumps` makes one at each call


def json_response(
    document: dict[str, Any], status: int, headers: dict[str, str] | None = None, content_type: str = "application/json"
) -> HttpResponse:
    """Writes what DRF's renderer would, in ASCII, but skips DRF's renderer and template response, which take a tenth
    of the CPU time of an application."""
    return HttpResponse(body_of(document), content_type=content_type, status=status, headers=headers)


def body_of(document: dict[str, Any]) -> bytes:
    return _encoder.encode(document).encode()


def problem_response(problem: Problem) -> HttpResponse:
    headers = {**problem.headers(), "Cache-Control": "no-store"}
    return json_response(problem.document(), problem.status, headers, CONTENT_TYPE)


def handle_exception(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """DRF's EXCEPTION_HANDLER. Returns None for a defect, which Django logs and answers by handler500."""
    problem = problem_of(error)
    if problem is None:
        return None
    set_rollback()
    response = problem_response(problem)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        outages.log(problem.code, error)
        # Keeps Django from logging the outage once more. Defects do not come here, and Django logs them.
        response._has_been_logged = True  # type: ignore[attr-defined]
    header = getattr(error, "auth_header", None)
    if header:
        response["WWW-Authenticate"] = header
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return problem_response(Problem(Code.INVALID, "The request could not be read."))
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return problem_response(Problem(Code.NOT_FOUND, "There is nothing at this address."))
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    if _is_api(request):
        return problem_response(Problem(Code.INTERNAL))
    error = sys.exc_info()[1]  # Django calls its error pages while it handles the exception
    return unavailable(error) if isinstance(error, (RetryLater, *DATABASE_DOWN)) else defaults.server_error(request)


def unavailable(error: Exception) -> HttpResponse:
    """Answers a page of the admin that no server could be asked for, with one line in the log instead of a traceback.

    The page is made without the session and the user, which are in PostgreSQL.
    """
    part = "PostgreSQL" if isinstance(error, (DatabaseUnavailable, *DATABASE_DOWN)) else "A server"
    logger.warning("admin.unavailable error=%s", one_line(error))
    page = render_to_string("coupons/unavailable.html", {"part": part})
    headers = {"Retry-After": str(RETRY_SOON_SEC), "Cache-Control": "no-store"}
    response = HttpResponse(page, status=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


class _OutageLog:
    """Logs one line a second for each code: during an outage every request would write the same line."""

    def __init__(self) -> None:
        self._last_at: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def log(self, code: str, error: object) -> None:
        now = time.monotonic()
        if now - self._last_at.get(code, -math.inf) < 1.0:
            self._unsaid[code] += 1
            return
        self._last_at[code] = now
        logger.warning("api.%s more_like_it=%d error=%s", code, self._unsaid.pop(code, 0), " ".join(str(error).split()))


outages = _OutageLog()

# For DRF's own exceptions: of several codes with one status, the first is the general one.
_CODE_OF_STATUS = {kind.status: code for code, kind in reversed(KINDS.items())}


def problem_of(error: Exception) -> Problem | None:
    """Returns None for a defect."""
    if isinstance(error, exceptions.ValidationError):
        return _invalid(error)
    if isinstance(error, Unconfirmed):
        return Problem(Code.UNCONFIRMED, "Repeat the same request: you keep your place.", RETRY_SOON_SEC)
    if isinstance(error, (RetryLater, *DATABASE_DOWN)):
        return Problem(Code.UNAVAILABLE, "Repeat the same request in a moment.", RETRY_SOON_SEC)
    if isinstance(error, (OperatorError, RedemptionRefused)):
        return _refused(error)
    if isinstance(error, exceptions.APIException):
        wait_sec = getattr(error, "wait", None)  # of Throttled and KeyInUse
        code = getattr(error, "problem", None) or _CODE_OF_STATUS[error.status_code]
        retry_after_sec = None if wait_sec is None else retry_after(wait_sec)
        detail = SEND_CREDENTIALS if isinstance(error, exceptions.NotAuthenticated) else str(error.detail)
        return Problem(code, detail, retry_after_sec)
    return None


def _refused(error: OperatorError | RedemptionRefused) -> Problem:
    if isinstance(error, OperatorError):
        return Problem(Code.CONFLICT, str(error))
    if isinstance(error, NoSuchCoupon):
        return Problem(Code.NOT_FOUND, "There is no such coupon or redemption.")
    if isinstance(error, NotRedeemable):
        return _not_redeemable(error)
    return Problem(Code.HOLD_ENDED if isinstance(error, HoldEnded) else Code.ORDER_RETURNED)


def _not_redeemable(error: NotRedeemable) -> Problem:
    """Tells only until when a coupon is held: the order that holds it is no other client's business."""
    life, extra, wait_sec = error.life, None, None
    if error.obstacle is Obstacle.HELD and life.live is not None and life.live.hold_until is not None:
        wait_sec = retry_after((life.live.hold_until - life.now).total_seconds())
    elif error.obstacle is Obstacle.NOT_VALID_YET and life.valid_from is not None:
        extra = {"valid_from": life.valid_from.isoformat()}
    elif error.obstacle is Obstacle.EXPIRED and life.valid_until is not None:
        extra = {"valid_until": life.valid_until.isoformat()}
    return Problem(Code(error.obstacle), retry_after_sec=wait_sec, extra=extra)


def _invalid(error: exceptions.ValidationError) -> Problem:
    errors = error.detail if isinstance(error.detail, dict) else {"body": error.detail}
    field, messages = next(iter(errors.items()))
    field = "body" if field == "non_field_errors" else field
    first = messages[0] if isinstance(messages, list) else messages
    return Problem(Code.INVALID, f"{field}: {first}", extra={"errors": errors})


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")
