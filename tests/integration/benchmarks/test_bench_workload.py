"""States that the benchmarks write at once are those that the product's own scripts leave."""

from typing import Any
from uuid import UUID

from benchmarks.workload import (
    LOADED_EPOCH,
    admit_all,
    eight_digits,
    fill_redis,
    insert_coupons,
    open_new,
    use_coupons,
)
from coupons.admission import ticket_store
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from faults.ledgers import reconcile
from tests.support.service import Service

COUNT = 30


def stored(campaign_id: UUID) -> tuple[Any, Any, int]:
    redis, keys = admission_redis(), campaign_keys(campaign_id)
    campaign: Any = redis.hgetall(keys.campaign)
    campaign.pop(b"opens_at_ms")
    return campaign, redis.hgetall(keys.tickets), redis.zcard(keys.pending)


def test_held_tickets_belong_to_admitted_and_issued_users(service: Service) -> None:
    really, at_once, users = open_new("really", 100), open_new("at once", 100), eight_digits(COUNT)
    admit_all(really, users)
    ticket_store.settle(epochs={really: LOADED_EPOCH}, users={really: users})
    fill_redis(at_once, users)
    assert stored(at_once) == stored(really)


def test_held_tickets_and_rows_make_a_ledger_that_closes(service: Service) -> None:
    campaign_id = open_new("at once", 100)
    fill_redis(campaign_id, eight_digits(COUNT))
    insert_coupons(campaign_id, COUNT)
    (ledger,) = reconcile(campaign_ids=[campaign_id])
    assert ledger.closes
    assert ledger.issued == COUNT


def test_coupons_in_use_fit_their_events(service: Service) -> None:
    campaign_id = open_new("at once", 100)
    fill_redis(campaign_id, eight_digits(COUNT))
    insert_coupons(campaign_id, COUNT)
    use_coupons(campaign_id, 20)
    (ledger,) = reconcile(campaign_ids=[campaign_id])
    assert ledger.closes, ledger.document()
    assert ledger.statuses == {"unused": COUNT - 15, "held": 5, "redeemed": 10, "revoked": 0, "expired": 0}
