"""The problem documents (RFC 9457): every code has one, buildable without a request."""

import json

import pytest

from coupons.api.problems import Code, Problem


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_status_and_a_title(code: Code) -> None:
    document = Problem(code).document()

    assert 400 <= document["status"] <= 503
    assert document["title"]
    assert document["type"] == f"/api/docs/problems#{code}"
    assert document["code"] == code
    json.dumps(document)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.SOLD_OUT, 409),
        (Code.NOT_OPEN, 409),
        (Code.PAUSED, 409),
        (Code.CLOSED, 410),
        (Code.NOT_FOUND, 404),
        (Code.UNAUTHENTICATED, 401),
        (Code.FORBIDDEN, 403),
        (Code.INVALID, 400),
        (Code.TOO_MANY_REQUESTS, 429),
        (Code.UNAVAILABLE, 503),
        (Code.UNCONFIRMED, 503),
    ],
)
def test_the_statuses_are_those_of_the_contract(code: Code, status: int) -> None:
    assert Problem(code).status == status


def test_a_problem_without_detail_has_no_detail_field() -> None:
    assert "detail" not in Problem(Code.PAUSED).document()
    assert Problem(Code.PAUSED, detail="why").document()["detail"] == "why"


def test_what_is_extra_stands_beside_the_members() -> None:
    document = Problem(Code.NOT_OPEN, extra={"opens_at": "2026-12-01T10:00:00+00:00"}).document()

    assert document["opens_at"] == "2026-12-01T10:00:00+00:00"


@pytest.mark.parametrize(("seconds", "headers"), [(None, {}), (0, {"Retry-After": "0"}), (7, {"Retry-After": "7"})])
def test_when_to_come_back_is_a_header(seconds: int | None, headers: dict[str, str]) -> None:
    assert Problem(Code.PAUSED, retry_after_sec=seconds).headers() == headers
