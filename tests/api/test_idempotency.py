"""POST /campaigns with an Idempotency-Key: a repeat creates nothing, and is answered as the first request was."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from coupons.auth.api_keys import create_api_key
from coupons.campaigns import lifecycle
from coupons.models import AuditEntry, Campaign, GivenAnswer
from coupons.runtime import given_answers
from tests.support.http import Api, assert_problem, json_of

BODY = {"name": "Ten", "quantity": 5}


def create(api: Api, key: str, body: Any = BODY) -> Any:
    return api.post("campaigns", body, **{"idempotency-key": key})


@contextmanager
def another_request(key: str) -> Iterator[None]:
    """Is at work with this key of the test's caller, on a connection of its own."""

    def hold() -> None:
        connection.ensure_connection()
        connection.set_autocommit(False)
        assert given_answers.try_lock(given_answers.digest(caller(), key))

    def release() -> None:
        connection.rollback()
        connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(hold).result()
        try:
            yield
        finally:
            thread.submit(release).result()


def caller() -> str:
    return AuditEntry.objects.get().actor


def test_a_repeat_creates_nothing_and_gets_the_same_answer(api: Api) -> None:
    first = create(api, "spring-2027")
    lifecycle.open_campaign(campaign_id=Campaign.objects.get().pk, actor="test")

    again = create(api, "spring-2027", {"quantity": 5, "name": "Ten"})

    assert (again.status_code, again.content, again["Location"]) == (201, first.content, first["Location"])
    assert Campaign.objects.count() == 1


def test_without_the_header_each_request_creates(api: Api) -> None:
    assert [api.post("campaigns", BODY).status_code for _ in range(2)] == [201, 201]
    assert Campaign.objects.count() == 2
    assert not GivenAnswer.objects.exists()


def test_another_key_creates_another_campaign(api: Api) -> None:
    assert [create(api, key).status_code for key in ("a", "b")] == [201, 201]
    assert Campaign.objects.count() == 2


def test_a_key_with_another_body_is_refused(api: Api) -> None:
    create(api, "k")

    assert_problem(create(api, "k", {**BODY, "quantity": 50}), 422, "key-reused")
    assert Campaign.objects.get().quantity == 5


def test_a_key_in_use_is_a_conflict_to_repeat(api: Api) -> None:
    create(api, "first")
    with another_request("k"):
        refused = create(api, "k")
    assert_problem(refused, 409, "key-in-use")
    assert refused["Retry-After"] == "1"

    assert create(api, "k").status_code == 201


def test_many_at_once_create_one_campaign(api: Api) -> None:
    def post(_: int) -> tuple[int, str]:
        try:
            answer = create(Api(), "k")
            return answer.status_code, json_of(answer).get("id", "")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(post, range(24)))

    assert {status for status, _ in answers} <= {201, 409}
    assert {found for status, found in answers if status == 201} == {str(Campaign.objects.get().pk)}


def test_each_caller_has_keys_of_its_own(api: Api) -> None:
    _, other = create_api_key(name="other", scopes=["manage"], actor="test")

    assert create(api, "k").status_code == create(Api(f"Bearer {other}"), "k").status_code == 201
    assert Campaign.objects.count() == 2


def test_a_refused_request_does_not_use_the_key_up(api: Api) -> None:
    assert_problem(create(api, "k", {**BODY, "quantity": 0}), 400, "invalid")

    assert create(api, "k").status_code == 201


def test_campaign_and_answer_are_kept_together_or_not_at_all(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("the process dies here")

    with monkeypatch.context() as patch:
        patch.setattr(GivenAnswer.objects, "create", fail)
        assert create(api, "k").status_code == 500
    assert not Campaign.objects.exists()

    assert create(api, "k").status_code == 201


@pytest.mark.parametrize("key", ["", "with blank", "x" * 256, "ümlaut"])
def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    document = assert_problem(create(api, key), 400, "invalid")

    assert "Idempotency-Key" in document["errors"]
    assert not Campaign.objects.exists()


def test_a_key_is_remembered_for_a_day(api: Api) -> None:
    create(api, "k")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE coupons_givenanswer SET at = at - interval '25 hours'")

    create(api, "k")

    assert (Campaign.objects.count(), GivenAnswer.objects.count()) == (2, 1)
