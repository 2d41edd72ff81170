"""Issuing: only what the gate holds, each ticket once, and nothing that a rebuild could miss."""

from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from coupons.admission import campaign_store
from coupons.errors import GateUnavailable, StateStale
from coupons.issuing.insert_coupons import insert_coupons as write_tickets
from coupons.issuing.issue import IssueResult, issue_coupons, settle_tickets
from coupons.messaging.messages import Ticket
from coupons.models import Campaign, Coupon, FailCode
from tests.support.service import Service
from tests.support.tickets import admit, held, insert_coupons, issue, issued_users, ticket


def refusals(result: IssueResult[Ticket]) -> dict[str, FailCode]:
    return {refusal.ticket.user_id: refusal.code for refusal in result.refused}


def test_tickets_that_the_gate_holds_become_coupons(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a", "b")
    result = issue(ticket(campaign, "b", 2), ticket(campaign, "a", 1))

    assert [each.user_id for each in result.written] == ["b", "a"]
    assert issued_users(campaign) == {"a": 1, "b": 2}


def test_a_ticket_not_held_is_never_issued(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    result = issue(ticket(campaign, "forged", 2), ticket(campaign, "a", 7))

    assert refusals(result) == {"forged": FailCode.NOT_ADMITTED, "a": FailCode.NOT_ADMITTED}
    assert not Coupon.objects.exists()


def test_a_ticket_that_is_issued_already_is_a_duplicate(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    issue(ticket(campaign, "a", 1))
    result = issue(ticket(campaign, "a", 1))

    assert [each.user_id for each in result.duplicates] == ["a"]
    assert Coupon.objects.count() == 1


def test_a_duplicate_among_new_ones_does_not_hold_them_up(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a", "b", "c")
    issue(ticket(campaign, "b", 2))
    result = issue(*(ticket(campaign, user, number) for number, user in enumerate("abc", 1)))

    assert [each.user_id for each in result.written] == ["a", "c"]
    assert [each.user_id for each in result.duplicates] == ["b"]


def test_one_ticket_twice_in_a_batch_is_one_coupon(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    result = issue(ticket(campaign, "a", 1), ticket(campaign, "a", 1))

    assert (len(result.written), len(result.duplicates)) == (1, 1)
    assert issued_users(campaign) == {"a": 1}


def test_an_issued_ticket_forgotten_by_the_gate_is_a_duplicate(service: Service) -> None:
    campaign = service.campaign()
    insert_coupons(campaign, [("a", 1)])
    result = issue(ticket(campaign, "a", 1))

    assert [each.user_id for each in result.duplicates] == ["a"]


def test_a_user_with_another_sequence_is_a_conflict(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    insert_coupons(campaign, [("a", 5)])
    result = issue(ticket(campaign, "a", 1))

    assert refusals(result) == {"a": FailCode.CONFLICT}
    assert "the user has the coupon of sequence 5" in result.refused[0].reason


def test_a_taken_sequence_is_a_conflict_and_neighbours_are_written(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a", "b", "c")
    insert_coupons(campaign, [("thief", 2)])
    result = issue(*(ticket(campaign, user, number) for number, user in enumerate("abc", 1)))

    assert refusals(result) == {"b": FailCode.CONFLICT}
    assert issued_users(campaign) == {"a": 1, "thief": 2, "c": 3}


def test_rows_beyond_the_quantity_are_refused_and_others_written(service: Service) -> None:
    campaign = service.campaign(3)
    admit(campaign, "a", "b", "c")
    insert_coupons(campaign, [("thief", 9)])
    result = issue(*(ticket(campaign, user, number) for number, user in enumerate("abc", 1)))

    assert refusals(result) == {"c": FailCode.QUANTITY_EXCEEDED}
    assert Coupon.objects.count() == 3


def test_an_unknown_campaign_is_told_and_asks_the_gate_nothing(service: Service) -> None:
    result = issue(ticket(uuid4(), "a", 1))

    assert refusals(result) == {"a": FailCode.UNKNOWN_CAMPAIGN}
    assert not result.held


def test_a_draft_is_an_unknown_campaign(service: Service) -> None:
    result = issue(ticket(service.campaign(opened=False), "a", 1))

    assert refusals(result) == {"a": FailCode.UNKNOWN_CAMPAIGN}


def test_one_batch_may_hold_several_campaigns(service: Service) -> None:
    first, second = service.campaign(), service.campaign()
    admit(first, "a")
    admit(second, "a")
    issue(ticket(second, "a", 1), ticket(first, "a", 1))

    assert issued_users(first) == issued_users(second) == {"a": 1}


def test_an_issued_ticket_stays_pending_until_settled(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    result = issue(ticket(campaign, "a", 1))
    before = held(campaign, "a")["a"].pending
    settle_tickets(result)

    assert before
    assert not held(campaign, "a")["a"].pending


def test_settling_takes_refused_tickets_off_pending_too(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    insert_coupons(campaign, [("a", 5)])
    settle_tickets(issue(ticket(campaign, "a", 1)))

    assert not held(campaign, "a")["a"].pending


class _Rebuild:
    """Raises the epoch as a rebuild does: just after the gate was asked, from another connection's point of view."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign

    def __call__(self, execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith("INSERT INTO coupons_coupon"):
            Campaign.objects.filter(pk=self._campaign.pk).update(epoch=F("epoch") + 1)
        return execute(sql, params, many, context)


def test_a_rebuild_before_the_commit_rolls_the_batch_back(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")

    with (
        pytest.raises(StateStale, match="a rebuild began while the batch was written"),
        connection.execute_wrapper(_Rebuild(campaign)),
    ):
        issue(ticket(campaign, "a", 1))
    assert not Coupon.objects.exists()


def test_a_stale_state_is_tried_later(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    Campaign.objects.filter(pk=campaign.pk).update(epoch=2)

    with pytest.raises(StateStale):
        issue(ticket(campaign, "a", 1))


def test_while_redis_is_away_nothing_is_written(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    service.stack("pause", "redis")

    with pytest.raises(GateUnavailable):
        issue(ticket(campaign, "a", 1))
    assert not Coupon.objects.exists()


def test_a_batch_of_2500_is_written_in_order_and_settled(service: Service) -> None:
    campaign = service.campaign(3_000)
    users = [f"u{number}" for number in range(2_500)]
    sequences = admit(campaign, *users)
    result = issue(*(ticket(campaign, user, number) for user, number in zip(users, sequences, strict=True)))
    settle_tickets(result)

    assert len(result.written) == 2_500
    assert campaign_store.describe(campaign_id=campaign.pk, epoch=1).pending == 0


def test_one_refused_among_many_is_found_by_halving(service: Service) -> None:
    campaign = service.campaign(500)
    users = [f"u{number}" for number in range(300)]
    places = list(zip(users, admit(campaign, *users), strict=True))
    insert_coupons(campaign, [("thief", 200)])

    with CaptureQueriesContext(connection) as captured:
        result = issue(*(ticket(campaign, user, number) for user, number in places))

    assert refusals(result) == {"u199": FailCode.CONFLICT}
    assert issued_users(campaign) == dict([*places[:199], ("thief", 200), *places[200:]])
    inserts = [query for query in captured if query["sql"].startswith("INSERT INTO coupons_coupon")]
    assert 2 < len(inserts) < 40, "300 would be one for each"


@pytest.mark.parametrize("room", [0, 1, 7, 8, 9, 20, 29])
def test_the_first_of_a_batch_get_the_last_coupons(service: Service, room: int) -> None:
    campaign = service.campaign(30)
    users = [f"u{number}" for number in range(30)]
    places = list(zip(users, admit(campaign, *users), strict=True))
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=30 - room)

    result = issue(*(ticket(campaign, user, number) for user, number in reversed(places)))

    assert issued_users(campaign) == dict(places[:room])
    assert refusals(result) == dict.fromkeys(users[room:], FailCode.QUANTITY_EXCEEDED)


@pytest.mark.parametrize(
    "user_id", ["NULL", "null", '"', "\\", '\\"', "a,b", "{}", "{", "'", "\\N", "%s", " ", "\n", "é"]
)
def test_a_user_id_is_written_exactly_as_given(service: Service, user_id: str) -> None:
    campaign = service.campaign()
    rows = [ticket(campaign, "before", 1), ticket(campaign, user_id, 2), ticket(campaign, "after", 3)]
    write_tickets(rows, code_keys={campaign.pk: campaign.code_key})

    assert issued_users(campaign) == {"before": 1, user_id: 2, "after": 3}


def test_issuing_nothing_is_nothing(service: Service) -> None:
    with transaction.atomic():
        result: IssueResult[Ticket] = issue_coupons([])

    assert result == IssueResult()
