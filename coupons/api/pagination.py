"""`limit` and `offset` of a list: whole numbers in their range, or a 400 that names the one that is not."""

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request

MAX_LIMIT = 100
MAX_OFFSET = 1_000_000  # further down nobody pages; PostgreSQL would walk all rows before it


class StrictPagination(LimitOffsetPagination):
    """DRF's takes the default for anything that is no number, so a client's mistake looks like an answer."""

    default_limit = 50
    max_limit = MAX_LIMIT

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
