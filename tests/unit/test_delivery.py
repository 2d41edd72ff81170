"""A message on its way: acknowledged, refused, or nobody knows yet."""

import threading

import pytest

from coupons.errors import LogUnavailable
from coupons.messaging.delivery import Delivery
from coupons.positions import Position

SOMEWHERE = Position(3, 17)


def test_who_waits_hears_where_the_message_lies_and_so_does_who_asks_again() -> None:
    delivery = Delivery()
    threading.Timer(0.02, delivery.acknowledged, [SOMEWHERE]).start()

    assert delivery.result(5) == SOMEWHERE
    assert delivery.result(0) == SOMEWHERE


def test_an_acknowledgement_without_a_place_is_one_too() -> None:
    delivery = Delivery()
    delivery.acknowledged(None)

    assert delivery.result(0) is None


def test_a_refusal_is_raised_each_time() -> None:
    delivery = Delivery()
    delivery.refused(LogUnavailable("the queue is full"))

    for _ in range(2):
        with pytest.raises(LogUnavailable, match="the queue is full"):
            delivery.result(5)


def test_the_end_of_the_time_is_no_refusal() -> None:
    delivery = Delivery()
    with pytest.raises(LogUnavailable):
        delivery.result(-1)
    delivery.acknowledged(SOMEWHERE)

    assert delivery.result(0) == SOMEWHERE


@pytest.mark.parametrize("refused", [False, True])
def test_its_end_either_way_is_told_once_and_the_result_is_there_by_then(refused: bool) -> None:
    told: list[str] = []

    def on_told(delivery: Delivery) -> None:
        try:
            told.append(f"lies at {delivery.result(0)}")
        except LogUnavailable as error:
            told.append(str(error))

    delivery = Delivery(on_told=on_told)
    if refused:
        delivery.refused(LogUnavailable("the queue is full"))
    else:
        delivery.acknowledged(SOMEWHERE)

    assert told == ["the queue is full" if refused else f"lies at {SOMEWHERE}"]
