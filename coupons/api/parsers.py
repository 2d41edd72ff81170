"""Parses requests strictly: JSON bodies, and the `limit` and `offset` of a list."""

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

MAX_LIMIT = 100
MAX_OFFSET = 1_000_000  # PostgreSQL walks all rows before the offset, and no client pages further


class BodyTooLarge(APIException):
    status_code = 413


class StrictJSONParser(BaseParser):
    """Accepts JSON by RFC 8259, and refuses anything that two parsers could read differently.

    DRF's parser reads bodies of any size, takes the last of two members with the same name, and takes or refuses NaN by
    a setting.
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise BodyTooLarge(f"The body may have {limit} bytes at most.")
        return read_json(body)


def read_json(body: bytes) -> Any:
    """Parses a body. Raises ParseError, whose text says what is wrong with it."""
    try:
        return _decoder.decode(body.decode("utf-8"))
    except RecursionError:
        raise ParseError("body: it is nested too deep.") from None
    except ValueError as error:  # no UTF-8, no JSON, an integer of 5,000 digits
        raise ParseError(f"body: no JSON: {str(error)[:200]}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ParseError(f"{name[:100]}: it is given twice.")
        members[name] = value
    return members


def _no_number(text: str) -> NoReturn:
    raise ParseError(f"body: {text} is no JSON number.")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)


class StrictPagination(LimitOffsetPagination):
    """Accepts whole numbers in their range, and answers 400 with the name of a parameter that is not.

    DRF's pagination takes the default for anything that is no number, which hides a client's mistake.
    """

    default_limit = 50

    def get_limit(self, request: Request) -> int:
        return _whole_number(request, "limit", least=1, most=MAX_LIMIT, default=self.default_limit)

    def get_offset(self, request: Request) -> int:
        return _whole_number(request, "offset", least=0, most=MAX_OFFSET, default=0)


def _whole_number(request: Request, name: str, *, least: int, most: int, default: int) -> int:
    given = request.query_params.getlist(name)
    if not given:
        return default
    text = given[0]
    if len(given) > 1 or not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
        raise ValidationError({name: [f"Give one whole number from {least} to {most}."]})
    return int(text)
