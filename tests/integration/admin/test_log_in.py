"""The admin's log-in under somebody who guesses: limited, telling nothing, and locking nobody out."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth import hashers
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from coupons.admin import log_in_counts
from coupons.models import LogInCount
from tests.support.operators import form_on, messages_of, text_of

LOG_IN = reverse("admin:login")
RIGHT = "correct horse battery"
ADDRESS = "81.2.69.142"


@pytest.fixture(autouse=True)
def _kim(transactional_db: None) -> None:
    User.objects.create_superuser("kim", password=RIGHT)


def guess(password: str, *, name: str = "kim", address: str = ADDRESS, client: Client | None = None) -> Any:
    return (client or Client()).post(LOG_IN, {"username": name, "password": password}, REMOTE_ADDR=address)


def statuses(answers: list[Any]) -> list[int]:
    return [answer.status_code for answer in answers]


@pytest.mark.attack(
    "log-in guessing",
    "100 passwords from one address, 100 from as many, 100 at once; the right one among them",
    "429 after 20, or 30 for a name; whoever has logged in there before still can",
)
def test_guessing_from_one_address_is_stopped() -> None:
    answers = [guess(RIGHT if number == 40 else f"guess {number}") for number in range(100)]

    assert statuses(answers) == [200] * 20 + [429] * 80
    assert 0 < int(answers[-1]["Retry-After"]) <= 900
    assert "Too many attempts. Try again in 15 minutes." in text_of(answers[-1])
    assert User.objects.get().last_login is None


def test_who_guesses_from_many_addresses_is_stopped_too() -> None:
    answers = [guess(RIGHT if number == 40 else "x", address=f"81.2.69.{number}") for number in range(100)]

    assert statuses(answers) == [200] * 30 + [429] * 70
    assert guess("x", name="KIM", address="81.3.1.1").status_code == 429, "another spelling is the same name"


def test_many_names_are_many_guesses_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_in_counts, "TOTAL_LIMIT", ("all", 50))

    answers = [guess("x", name=f"name{number}", address=f"81.2.69.{number}") for number in range(60)]

    assert statuses(answers) == [200] * 50 + [429] * 10


def test_a_proxy_s_users_are_not_one_address(settings: LazySettings) -> None:
    """Private addresses stand for many people; the name's limit holds all the same."""
    answers = [guess("x", address="10.0.0.7") for _ in range(40)]
    assert statuses(answers) == [200] * 30 + [429] * 10


def test_a_whole_network_of_ipv6_is_one_address() -> None:
    answers = [guess("x", name=f"n{number}", address=f"2a00:1450:4001:81b::{number:x}") for number in range(25)]

    assert statuses(answers) == [200] * 20 + [429] * 5


def test_guessing_does_not_lock_out_a_known_browser() -> None:
    operator = Client()
    assert guess(RIGHT, client=operator, address="81.9.9.9").status_code == 302
    operator.post(reverse("admin:logout"))
    for number in range(60):
        guess("x", address=f"81.2.69.{number}")

    assert guess(RIGHT, address="81.9.9.9").status_code == 429, "from a new browser, until it is over"
    assert guess(RIGHT, client=operator, address="81.2.69.1").status_code == 302


def test_a_known_browser_may_not_guess_for_ever() -> None:
    User.objects.create_superuser("lee", password=RIGHT)
    thief = Client()
    guess(RIGHT, client=thief)
    thief.post(reverse("admin:logout"))

    assert statuses([guess("x", client=thief) for _ in range(12)]) == [200] * 10 + [429] * 2
    lee = [guess("x", name="lee", client=thief) for _ in range(25)]
    assert statuses(lee) == [200] * 20 + [429] * 5, "counted as any stranger's"


@pytest.mark.parametrize("forged", ["", "x", "eyJ1c2VyIjoia2ltIiwiYnJvd3NlciI6IngifQ:1vPQ:abc"])
def test_a_forged_cookie_makes_no_browser_known(forged: str) -> None:
    client = Client()
    client.cookies["known"] = forged

    assert statuses([guess("x", client=client) for _ in range(25)]) == [200] * 20 + [429] * 5


def test_a_right_password_uses_nothing_up() -> None:
    assert statuses([guess(RIGHT) for _ in range(35)]) == [302] * 35


def test_the_limit_ends_with_its_time_and_leaves_no_rows() -> None:
    assert [guess("x").status_code for _ in range(21)][-1] == 429
    with connection.cursor() as cursor:
        cursor.execute("UPDATE coupons_logincount SET until = now() - interval '1 second'")

    assert guess("x").status_code == 200
    assert LogInCount.objects.count() == 3
    assert set(LogInCount.objects.values_list("attempts", flat=True)) == {1}


def test_what_is_typed_stands_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    guess("x", name="hunter2, typed into the wrong field")

    assert "hunter2" not in caplog.text
    assert "log_in.failed user=- address=81.2.69.142" in caplog.text
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in LogInCount.objects.values_list("key", flat=True))


@pytest.mark.attack(
    "which names exist",
    "log-in as nobody, with a wrong password, as no staff, as one switched off",
    "one answer, one hash",
)
def test_nothing_tells_which_names_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user("shopper", password=RIGHT)
    User.objects.create_superuser("gone", password=RIGHT, is_active=False)
    hashed: list[str] = []
    encode = hashers.MD5PasswordHasher.encode

    def count(self: hashers.MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", count)

    def answer(name: str, password: str) -> tuple[int, int, str]:
        hashed.clear()
        page = guess(password, name=name)
        html = re.sub(r'(csrfmiddlewaretoken" value=")\w+', r"\1", page.content.decode()).replace(name, "NAME")
        return page.status_code, len(hashed), html

    wrong = answer("kim", "wrong")
    assert wrong[:2] == (200, 1)
    assert answer("nobody", RIGHT) == answer("shopper", "wrong") == answer("gone", RIGHT) == wrong
    assert answer("shopper", RIGHT)[:2] == wrong[:2], "who knows the password is told why, after one hash as well"


@pytest.mark.parametrize("group", ["operators", "auditors"])
def test_a_group_member_without_staff_status_is_told_so(group: str) -> None:
    User.objects.create_user("shopper", password=RIGHT).groups.add(Group.objects.get_or_create(name=group)[0])

    told = guess(RIGHT, name="shopper")

    assert "Your password is right" in text_of(told)
    assert "Staff status" in text_of(told)
    assert "_auth_user_id" not in told.client.session
    assert "Staff status" not in text_of(guess("wrong", name="shopper"))


def test_saving_a_user_with_rights_and_no_staff_status_warns() -> None:
    admin, group = Client(), Group.objects.get_or_create(name="operators")[0]
    admin.force_login(User.objects.get(username="kim"))
    user = User.objects.create_user("shopper", password=RIGHT)
    page = reverse("admin:auth_user_change", args=[user.pk])

    saved = admin.post(page, form_on(admin.get(page), groups=[group.pk], reason="new here"), follow=True)

    assert "warning: shopper cannot log in here: tick “Staff status”" in messages_of(saved)[0]


def test_a_hash_is_not_made_once_a_limit_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        guess("x")

    def must_not(*_: object) -> str:
        raise AssertionError("hashed all the same")

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", must_not)
    assert guess("x").status_code == 429


def test_strangers_occupy_at_most_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """While two passwords are hashed, a third one is not."""
    begun, over = threading.Semaphore(0), threading.Event()
    encode = hashers.MD5PasswordHasher.encode

    def slowly(*arguments: Any) -> str:
        begun.release()
        over.wait(20)
        return encode(*arguments)

    def guess_and_leave(name: str) -> int:
        try:
            return int(guess("x", name=name).status_code)
        finally:
            connection.close()

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", slowly)
    with ThreadPoolExecutor(2) as pool:
        others = pool.map(guess_and_leave, ["anna", "ben"])
        assert begun.acquire(timeout=20)
        assert begun.acquire(timeout=20)
        answer = guess(RIGHT)
        over.set()

    assert (answer.status_code, answer["Retry-After"]) == (429, "1")
    assert list(others) == [200, 200]
    assert guess(RIGHT).status_code == 302


def test_guesses_at_once_are_counted_one_by_one() -> None:
    """Twenty-one would pass if each looked first and counted afterwards."""
    passed: list[bool] = []
    together = threading.Barrier(12)

    def attempt() -> None:
        together.wait()
        for _ in range(3):
            try:
                log_in_counts.count_attempt(name="kim", address=None, browser=None)
                passed.append(True)
            except log_in_counts.TooManyAttempts:
                passed.append(False)
        connection.close()

    threads = [threading.Thread(target=attempt) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (passed.count(True), passed.count(False)) == (30, 6)
