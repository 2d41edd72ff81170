"""What PostgreSQL itself refuses, whoever writes; and its trigger between two transactions."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from coupons.models import Campaign, Coupon, FailEventHistory

INSERT = "INSERT INTO coupons_coupon (campaign_id, user_id, sequence, code) VALUES "


def campaign(quantity: int = 100, **values: Any) -> Campaign:
    return Campaign.objects.create(name="test", quantity=quantity, **({"opens_at": timezone.now()} | values))


def insert(campaign_id: UUID, *rows: tuple[str, int]) -> None:
    """As somebody would with psql."""
    values = ", ".join(["(%s, %s, %s, %s)"] * len(rows))
    parameters = [
        item
        for user, sequence in rows
        for item in (campaign_id, user, sequence, f"{campaign_id.hex[:12]}{user}{sequence}")
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(INSERT + values, parameters)


def rows(first: int, last: int) -> list[tuple[str, int]]:
    return [(f"u{number}", number) for number in range(first, last + 1)]


@pytest.mark.django_db
def test_the_101st_row_is_refused() -> None:
    full = campaign(100)
    insert(full.pk, *rows(1, 100))

    with pytest.raises(IntegrityError, match="campaign_issued_within_quantity"):
        insert(full.pk, ("late", 101))
    assert Coupon.objects.count() == 100


@pytest.mark.django_db
def test_a_statement_beyond_the_quantity_writes_nothing() -> None:
    almost = campaign(100)
    insert(almost.pk, *rows(1, 99))

    with pytest.raises(IntegrityError, match="campaign_issued_within_quantity"):
        insert(almost.pk, ("x", 100), ("y", 101))
    assert Coupon.objects.count() == 99


@pytest.mark.django_db
def test_the_count_is_kept_for_every_campaign_of_a_statement() -> None:
    first, second = campaign(), campaign()
    with connection.cursor() as cursor:
        cursor.execute(
            f"{INSERT} (%s, 'a', 1, 'c1'), (%s, 'a', 1, 'c2'), (%s, 'b', 2, 'c3')", [first.pk, second.pk, first.pk]
        )

    assert [Campaign.objects.get(pk=each.pk).issued_count for each in (first, second)] == [2, 1]


@pytest.mark.django_db
def test_a_second_row_of_a_user_is_refused() -> None:
    one = campaign()
    insert(one.pk, ("a", 1))

    with pytest.raises(IntegrityError, match="coupon_one_per_user"):
        insert(one.pk, ("a", 2))


@pytest.mark.django_db
def test_a_second_row_of_a_sequence_is_refused() -> None:
    one = campaign()
    insert(one.pk, ("a", 1))

    with pytest.raises(IntegrityError, match="coupon_one_per_sequence"):
        insert(one.pk, ("b", 1))


@pytest.mark.django_db
def test_the_same_user_and_sequence_may_be_in_another_campaign() -> None:
    insert(campaign().pk, ("a", 1))
    insert(campaign().pk, ("a", 1))

    assert Coupon.objects.count() == 2


@pytest.mark.django_db
def test_a_code_is_unique_in_all_campaigns() -> None:
    Coupon.objects.create(campaign=campaign(), user_id="a", sequence=1, code="SAME")

    with pytest.raises(IntegrityError, match="coupon_code_unique"):
        Coupon.objects.create(campaign=campaign(), user_id="a", sequence=1, code="SAME")


@pytest.mark.django_db
@pytest.mark.parametrize("quantity", [0, 10_000_001])
def test_a_quantity_out_of_range_is_refused(quantity: int) -> None:
    with pytest.raises(IntegrityError, match="campaign_quantity_in_range"):
        campaign(quantity)


@pytest.mark.django_db
@pytest.mark.parametrize("hours", [0, -1])
def test_a_window_that_ends_before_it_begins_is_refused(hours: int) -> None:
    now = timezone.now()

    with pytest.raises(IntegrityError, match="campaign_closes_after_it_opens"):
        campaign(opens_at=now, closes_at=now + timedelta(hours=hours))


@pytest.mark.django_db
def test_a_failed_event_is_one_per_message() -> None:
    values: dict[str, Any] = {"payload": b"x", "payload_hash": "h", "topic": "t", "partition": 0, "offset": 1}
    FailEventHistory.objects.create(**values)

    with pytest.raises(IntegrityError, match="failevent_one_per_message"):
        FailEventHistory.objects.create(**values)


@pytest.mark.django_db
def test_a_campaign_with_coupons_cannot_be_deleted() -> None:
    one = campaign()
    insert(one.pk, ("a", 1))

    with pytest.raises(ProtectedError):
        one.delete()


@pytest.mark.django_db
def test_the_migrations_are_complete() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.usefixtures("transactional_db")
def test_writing_two_campaigns_in_opposite_order_does_not_deadlock() -> None:
    first, second = campaign(10_000), campaign(10_000)
    orders = [(first.pk, second.pk), (second.pk, first.pk)]
    together = threading.Barrier(2)

    def write(number: int) -> None:
        try:
            for turn in range(20):
                together.wait(20)
                base = number * 1_000 + turn * 2 + 1
                with connection.cursor() as cursor:  # one statement, its rows in this worker's order
                    cursor.execute(
                        f"{INSERT} (%s, %s, %s, %s), (%s, %s, %s, %s)",
                        [
                            v
                            for at, pk in enumerate(orders[number])
                            for v in (pk, f"u{base}", base, f"{number}-{turn}-{at}")
                        ],
                    )
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))

    assert [Campaign.objects.get(pk=each.pk).issued_count for each in (first, second)] == [40, 40]


@pytest.mark.usefixtures("transactional_db")
def test_many_writers_at_once_stop_exactly_at_the_quantity() -> None:
    one = campaign(30)

    def write(number: int) -> bool:
        try:
            insert(one.pk, (f"u{number}", number + 1))
        except IntegrityError as error:
            assert "campaign_issued_within_quantity" in str(error)  # noqa: PT017
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        written = sum(pool.map(write, range(60)))

    assert written == Coupon.objects.count() == Campaign.objects.get().issued_count == 30
