"""How far the topic was read, as PostgreSQL keeps it: moved with the rows, never past a message, and a log that was cut
is noticed."""

import pytest
from django.db import transaction

from consumers.coupon_create import save_coupons
from coupons.errors import MessagesSkipped
from coupons.messaging import read_offsets
from coupons.messaging.positions import Position
from coupons.messaging.topics import PartitionLag, partition_lags, topic_id
from coupons.models import Campaign, Coupon, PartitionOffset
from coupons.recovery import cut_logs
from coupons.recovery.cut_logs import check_log_ends
from coupons.recovery.relay import relay_pending
from tests.support.service import Service
from tests.support.tickets import admit, consume, held, publish_and_mark, received, were_read


def offsets() -> dict[int, int]:
    return read_offsets.next_offsets()


def advance(**read: tuple[int, int]) -> None:
    with transaction.atomic():
        read_offsets.advance({int(partition.removeprefix("p")): each for partition, each in read.items()})


def test_a_batch_moves_its_partitions_offsets_with_its_rows(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a", "b")
    were_read(Position(0, 3))
    save_coupons([received(campaign, "a", 1, offset=4), received(campaign, "b", 2, offset=5)])

    assert offsets() == {0: 6}


def test_what_is_rolled_back_moves_nothing(service: Service) -> None:
    were_read(Position(0, 3))

    with transaction.atomic():
        read_offsets.advance({0: (4, 9)})
        transaction.set_rollback(True)

    assert offsets() == {0: 4}


@pytest.mark.parametrize(("read", "then"), [((4, 9), 9), ((0, 2), 2), ((2, 6), 6)], ids=["on", "back", "over"])
def test_a_batch_at_or_before_the_record_sets_it(service: Service, read: tuple[int, int], then: int) -> None:
    were_read(Position(0, 3))
    advance(p0=read)

    assert offsets() == {0: then}


def test_a_batch_that_begins_beyond_the_record_is_refused_whole(service: Service) -> None:
    were_read(Position(0, 3), Position(1, 3))

    with pytest.raises(MessagesSkipped, match=r"1@5, read up to 4") as refused:
        advance(p0=(4, 9), p1=(5, 9))

    assert refused.value.next_offsets == {1: 4}
    assert offsets() == {0: 4, 1: 4}


def test_a_partition_without_a_record_is_read_from_its_beginning(service: Service) -> None:
    with pytest.raises(MessagesSkipped) as refused:
        advance(p2=(5, 9))

    assert refused.value.next_offsets == {2: 0}


def test_reading_a_partition_from_its_beginning_makes_a_record(service: Service) -> None:
    advance(p2=(0, 9))

    assert offsets() == {2: 9}


def test_reading_begins_at_the_lower_of_group_and_record(service: Service) -> None:
    were_read(Position(0, 3), Position(1, 3), Position(2, 3))

    assert read_offsets.start_offsets({0: 9, 1: 4, 2: 1, 3: None, 4: 7}) == {0: 4}
    assert offsets() == {0: 4, 1: 4, 2: 4, 3: 0, 4: 7}


def test_what_retention_has_removed_is_passed(service: Service) -> None:
    were_read(Position(0, 3), Position(1, 30))

    assert read_offsets.skip_expired({0: 10, 1: 10}) == [0]
    assert offsets() == {0: 10, 1: 31}


def test_a_batch_beyond_removed_messages_waits_for_the_keeper(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    were_read(Position(0, 3))
    with pytest.raises(MessagesSkipped):
        save_coupons([received(campaign, "a", 1, offset=20)])
    read_offsets.skip_expired({0: 20})

    assert save_coupons([received(campaign, "a", 1, offset=20)]).done == 1


@pytest.fixture
def waiting(service: Service) -> Campaign:
    """Two users whose messages wait for a consumer; their partitions were seen by a keeper."""
    campaign = service.campaign()
    admit(campaign, "a", "b")
    for number, user in enumerate("ab", 1):
        publish_and_mark(campaign, user, number)
    read_offsets.start_offsets(dict.fromkeys(range(4)))
    assert check_log_ends() == []
    return campaign


def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if these partitions had lost their log."""
    lags = {number: PartitionLag(0, 0, lag.read) for number, lag in partition_lags().items()}
    monkeypatch.setattr(cut_logs, "partition_lags", lambda: lags)


def is_published(campaign: Campaign, user: str) -> bool:
    return held(campaign, user)[user].position is not None


def test_a_log_that_grows_is_not_cut(waiting: Campaign) -> None:
    admit(waiting, "c")
    publish_and_mark(waiting, "c", 3)

    assert check_log_ends() == []
    assert is_published(waiting, "a")
    ends = dict(PartitionOffset.objects.values_list("partition", "end_offset"))
    assert ends == {number: lag.end for number, lag in partition_lags().items()}


def test_pending_tickets_of_a_cut_log_are_published_again(waiting: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as cut:
        shorter(cut)
        assert check_log_ends()
    before = sum(lag.end for lag in partition_lags().values())

    assert not is_published(waiting, "a")
    report = relay_pending()

    assert report is not None
    assert report.published == 2
    assert sum(lag.end for lag in partition_lags().values()) == before + 2


def test_a_log_that_was_cut_is_read_from_its_beginning(waiting: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    were_read(*(Position(number, 500) for number in range(4)))
    shorter(monkeypatch)

    assert check_log_ends() == [0, 1, 2, 3]
    assert offsets() == dict.fromkeys(range(4), 0)
    assert check_log_ends() == []


def test_a_recreated_topic_is_noticed_by_its_id(waiting: Campaign) -> None:
    PartitionOffset.objects.update(topic_id="another")

    assert check_log_ends() == [0, 1, 2, 3]
    assert not is_published(waiting, "a")
    assert set(PartitionOffset.objects.values_list("topic_id", flat=True)) == {topic_id()}


def test_a_stale_campaign_is_left_to_its_rebuild(
    service: Service, waiting: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = service.campaign()
    Campaign.objects.filter(pk=stale.pk).update(epoch=9)
    shorter(monkeypatch)

    assert check_log_ends()
    assert not is_published(waiting, "a")


def test_reading_a_log_again_issues_nothing_twice(waiting: Campaign) -> None:
    consume(received(waiting, "a", 1, offset=0))
    consume(received(waiting, "a", 1, offset=0))

    assert Coupon.objects.count() == 1
