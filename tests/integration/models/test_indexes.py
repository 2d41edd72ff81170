# ruff: noqa: S608  only constants of this file are put together
"""Every query that meets a large table uses an index of models.py, and every index is used (EXPLAIN, 200 k rows).

The tables are filled in one transaction that is rolled back. The queries are those that the program sends: each caller
is run while its SQL is written down, then PostgreSQL explains it.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from coupons.api.tickets import find_ticket
from coupons.issuing.issue import issue_coupons
from coupons.issuing.retry import retry_due_events
from coupons.issuing.ticket_rows import failed_tickets, issued_tickets, written_sequences
from coupons.models import Coupon, FailEventHistory, Redemption
from coupons.redemption.coupon_life import life_of_code, life_of_redemption
from coupons.redemption.coupon_lists import list_coupons
from coupons.redemption.lapsed_holds import tidy_lapsed_holds
from harness import unlimited_waits
from tests.support.gate import Gate
from tests.support.tickets import ticket

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(120), pytest.mark.usefixtures("_clients")]

ROWS = 200_000
CAMPAIGNS = 200
LARGE = (
    "coupons_coupon", "coupons_redemption", "coupons_couponevent", "coupons_faileventhistory", "coupons_failattempt",
)  # fmt: skip

IDENTITIES = {"coupons_failattempt_pkey", "coupons_couponevent_pkey"}

CAMPAIGN_ID = "('00000000-0000-4000-8000-' || lpad((%s)::text, 12, '0'))::uuid"
OF_ROW = CAMPAIGN_ID % f"1 + n % {CAMPAIGNS}"
NUMBERS = f"generate_series(0, {ROWS} - 1) n"
FILL = [
    # The rows fit together as they are made; checking half a million of them one by one takes longer than all the rest.
    "SET LOCAL session_replication_role = replica",
    f"""
    INSERT INTO coupons_campaign (id, name, quantity, opens_at, state, revision, epoch, issued_count)
    SELECT {CAMPAIGN_ID % "n"}, 'c' || n, 1000000, now(), 'open', 1, 1, 0 FROM generate_series(1, {CAMPAIGNS}) n
    """,
    f"""
    INSERT INTO coupons_coupon (campaign_id, user_id, sequence, code)
    SELECT {OF_ROW}, 'user-' || n / {CAMPAIGNS}, 1 + n / {CAMPAIGNS}, upper(md5(n::text)) FROM {NUMBERS}
    """,
    # 1 coupon in 10 is used for the second time, 1 in 100 is held, 1 in 1,000 is revoked.
    """
    INSERT INTO coupons_redemption (id, coupon_id, order_ref, state, hold_until, redeemed_at, ended_at)
    SELECT gen_random_uuid(), coupon.id, 'order-' || coupon.id || '-' || n,
        CASE WHEN n = 1 THEN 'returned' WHEN coupon.id % 10 = 0 THEN 'held' ELSE 'redeemed' END,
        now(), CASE WHEN n = 1 OR coupon.id % 10 > 0 THEN now() END, CASE WHEN n = 1 THEN now() END
    FROM coupons_coupon AS coupon, generate_series(1, 2) AS n WHERE coupon.id % 10 = 0 OR coupon.id % 3 = n
    """,
    """
    INSERT INTO coupons_couponevent (coupon_id, redemption_id, kind, actor, reason)
    SELECT coupon_id, id, state, 'x', '' FROM coupons_redemption
    UNION ALL SELECT id, NULL, 'revoked', 'x', '' FROM coupons_coupon WHERE id % 1000 = 1
    """,
    # 1 row in 41 is still open; of those one in ten is due. One error code is rare.
    f"""
    INSERT INTO coupons_faileventhistory (campaign_id, campaign_ref, user_id, sequence, payload, payload_hash,
        error_code, error_message, event_status, attempts, next_attempt_at, topic, partition, "offset", given_up_by,
        given_up_reason)
    SELECT {OF_ROW}, 'x', 'user-' || n / {CAMPAIGNS}, 1 + n / {CAMPAIGNS}, 'payload', md5(n::text),
        CASE WHEN n % 499 = 0 THEN 'conflict' ELSE 'quantity-exceeded' END, '',
        CASE WHEN n % 41 = 0 THEN 'FAIL' ELSE 'SUCCESS' END, 1,
        CASE WHEN n % 410 = 0 THEN now() + interval '1 hour' END, 'coupon_create', n % 8, n, '', ''
    FROM {NUMBERS}
    """,
    """
    INSERT INTO coupons_failattempt (event_id, started_at, actor, error_code, error_message)
    SELECT id, now(), 'x', '', '' FROM coupons_faileventhistory WHERE id % 10 = 0
    """,
    "SET LOCAL session_replication_role = origin",
    "ANALYZE",
]
CAMPAIGN = UUID("00000000-0000-4000-8000-000000000007")
USERS = [f"user-{number}" for number in range(500)]


def issue_again(users: list[str]) -> None:
    """Tickets that the gate holds, and of which the coupons are there."""
    gate = Gate(campaign_id=CAMPAIGN, quantity=ROWS)
    for user in users:
        gate.admit(user)
    tickets = [ticket(CAMPAIGN, user, sequence) for sequence, user in enumerate(users, start=1)]
    with transaction.atomic():
        assert len(issue_coupons(tickets).duplicates) == len(users)
    gate.remove()


class Plan(NamedTuple):
    """What PostgreSQL would do: which indexes it reads, which tables from one end to the other."""

    sql: str
    indexes: set[str]
    scanned: set[str]


class Look(NamedTuple):
    """What was found on the filled tables: the plans by query or page, and every index that there is."""

    plans: dict[str, list[Plan]]
    indexes: set[str]


def look() -> Look:
    with unlimited_waits(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '60s'")
        for statement in FILL:
            cursor.execute(statement)
    operator = Client()
    operator.force_login(User.objects.create_superuser("operator-of-indexes"))
    plans = {name: plans_of(ask) for name, (ask, _) in PROGRAM.items()}
    for name, (address, _) in PAGES.items():
        plans[name] = plans_of(partial(operator.get, f"/admin/coupons/{address}"))
    plans["an event with its attempts"] = plans_of(
        lambda: operator.get(f"/admin/coupons/faileventhistory/{_first(FailEventHistory)}/change/")
    )
    plans["a coupon"] = plans_of(lambda: operator.get(f"/admin/coupons/coupon/{_first(Coupon)}/change/"))
    return Look(plans, _indexes())


def plans_of(ask: Callable[[], object]) -> list[Plan]:
    with CaptureQueriesContext(connection) as captured:
        ask()
    return [
        _explain(_select(query["sql"])) for query in captured.captured_queries if _meets_a_large_table(query["sql"])
    ]


def _meets_a_large_table(sql: str) -> bool:
    writes = sql.startswith(("INSERT", "EXPLAIN"))
    return any(re.search(rf"\b{table}\b", sql) for table in LARGE) and not writes


def _select(sql: str) -> str:
    """Of a server-side cursor, the query that it runs."""
    return re.sub(r"^DECLARE .*? CURSOR .*?FOR\s+", "", sql, flags=re.DOTALL)


def _explain(sql: str) -> Plan:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        found = cursor.fetchone()[0]
    document = found if isinstance(found, list) else json.loads(found)
    plan = Plan(sql, set(), set())
    _walk(document[0]["Plan"], plan)
    return plan


def _walk(node: dict[str, Any], plan: Plan, *, limited: bool = False) -> None:
    if "Index Name" in node:
        plan.indexes.add(node["Index Name"])
    # The pages count the first 10,001 rows, for which PostgreSQL takes them as they lie: a scan that a LIMIT ends.
    if node["Node Type"] == "Seq Scan" and not (limited and "Filter" not in node):
        plan.scanned.add(node["Relation Name"])
    for child in node.get("Plans", []):
        _walk(child, plan, limited=node["Node Type"] == "Limit")


PROGRAM: dict[str, tuple[Callable[[], object], set[str]]] = {
    "what is due for a retry": (lambda: retry_due_events(limit=100, actor="test"), {"failevent_due"}),
    "the coupons of a campaign": (lambda: list(issued_tickets(CAMPAIGN)), {"coupon_one_per_sequence"}),
    "the failed tickets of a campaign": (lambda: list(failed_tickets(CAMPAIGN)), {"failevent_open"}),
    "the rows of some users": (
        lambda: written_sequences(CAMPAIGN, USERS[:20]),
        {"coupon_one_per_user", "failevent_open"},
    ),
    "the coupons of a batch": (
        lambda: issue_again(USERS[:50]),
        {"coupon_one_per_user"},
    ),
    "a user's ticket, issued": (lambda: find_ticket(campaign_id=CAMPAIGN, user_id="user-7"), {"coupon_one_per_user"}),
    "a user's ticket, not issued": (
        lambda: find_ticket(campaign_id=CAMPAIGN, user_id="nobody"),
        {"coupon_one_per_user", "failevent_given_up"},
    ),
    "a coupon by its code": (
        lambda: life_of_code("A-CODE", order_ref="1001"),
        {"coupon_code_unique", "couponevent_revoked_once"},
    ),
    "a redemption": (
        lambda: life_of_redemption(Redemption.objects.values_list("pk", flat=True)[0]),
        {"coupons_redemption_pkey"},
    ),
    "the holds that have ended": (lambda: tidy_lapsed_holds(actor="test", stop=lambda: True), {"redemption_held"}),
    "a user's coupons": (
        lambda: list(list_coupons(Coupon.objects.filter(user_id="user-7"), status="unused")),
        {"coupon_one_per_user"},
    ),
    "the count of a campaign's rows": (
        Coupon.objects.filter(campaign_id=CAMPAIGN).count,
        {"coupon_one_per_sequence"},
    ),
}
PAGES: dict[str, tuple[str, set[str]]] = {
    "coupons, newest first": ("coupon/", {"coupons_coupon_pkey"}),
    "coupons of a user or an order": ("coupon/?q=user-7", {"coupon_one_per_user", "redemption_by_order"}),
    "coupons of a campaign": (f"coupon/?campaign__id__exact={CAMPAIGN}", {"coupon_one_per_sequence"}),
    "failed events, all": ("faileventhistory/?status=all", {"coupons_faileventhistory_pkey"}),
    "failed events, open": ("faileventhistory/", set()),
    "failed events, waiting": ("faileventhistory/?status=waiting", set()),
    "failed events, due": ("faileventhistory/?status=due", set()),
    "failed events, given up": ("faileventhistory/?status=given-up", set()),
    "failed events of a user": ("faileventhistory/?status=all&q=user-7", {"failevent_by_user"}),
    "failed events at a position": (
        "faileventhistory/?status=all&q=coupon_create[3]@1003",
        {"failevent_one_per_message"},
    ),
    "failed events of a campaign": (
        f"faileventhistory/?status=all&campaign__id__exact={CAMPAIGN}",
        {"failevent_by_campaign"},
    ),
    "failed events by error code": (
        "faileventhistory/?status=all&error_code__exact=conflict",
        {"failevent_by_code"},
    ),
    "campaigns with their open events": ("campaign/", {"failevent_open"}),
}


def test_every_query_uses_an_index_and_every_index_is_used() -> None:
    """One test, as filling the tables takes seconds."""
    found = look()

    for name, (_, expected) in {**PROGRAM, **PAGES}.items():
        plans = found.plans[name]
        assert plans, f"{name} sent no query to a large table"
        assert not [plan for plan in plans if plan.scanned & set(LARGE)], name
        assert expected <= {index for plan in plans for index in plan.indexes}, (name, plans)
    used = {index for plans in found.plans.values() for plan in plans for index in plan.indexes}
    assert found.indexes - used == IDENTITIES, "an attempt, an event: their keys are only their identity"


def _indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = ANY(%s)", [list(LARGE)])
        return {row[0] for row in cursor.fetchall()}


def _first(table: type[Model]) -> int:
    return int(table._default_manager.order_by("pk").values_list("pk", flat=True)[0])
