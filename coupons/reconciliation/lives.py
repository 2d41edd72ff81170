"""Compares the coupons of a campaign with their redemptions and events: one query for each difference.

All of it is PostgreSQL's, so nothing needs a second look: `LIVES` sees one moment, and a redemption and its event are
written in one transaction.
"""

from typing import Any, Final
from uuid import UUID

from django.db.models import Count, QuerySet

from coupons.models import Coupon
from coupons.reconciliation.differences import Kind
from coupons.reconciliation.ledger import Ledger, OrphanLedger
from coupons.reconciliation.temporary_tables import TemporaryTables
from coupons.redemption.coupon_life import CouponStatus
from coupons.redemption.coupon_lists import with_status

# What the events make of a redemption needs no order of theirs, which a clock that was set back or ids that were given
# again would spoil: it is returned once and for good, redeemed once before that, and lapses once for each hold that
# nobody confirms.
LIVES: Final = """
INSERT INTO life
SELECT coupon_id, coupon, redemption_id, order_ref, state, outside, revoked > 0,
    CASE WHEN held + redeemed + returned + lapsed = 0 THEN NULL
        WHEN redeemed > 1 OR returned > 1 OR held - lapsed NOT IN (0, 1) THEN 'impossible'
        WHEN returned = 1 THEN 'returned' WHEN redeemed = 1 THEN 'redeemed' WHEN held > lapsed THEN 'held'
        ELSE 'lapsed' END,
    state IN ('held', 'redeemed'), coupon || ', order ' || order_ref
FROM (
    SELECT coupon.id AS coupon_id, coupon.user_id || ' #' || coupon.sequence AS coupon, redemption_id,
        max(order_ref) AS order_ref, max(said.state) AS state,
        bool_or(began < campaign.valid_from OR began >= coalesce(
            campaign.valid_until, coupon.issued_at + campaign.valid_days * interval '24 hours')) AS outside,
        count(*) FILTER (WHERE kind = 'held') AS held, count(*) FILTER (WHERE kind = 'redeemed') AS redeemed,
        count(*) FILTER (WHERE kind = 'returned') AS returned, count(*) FILTER (WHERE kind = 'lapsed') AS lapsed,
        count(*) FILTER (WHERE kind = 'revoked') AS revoked
    FROM (
        SELECT coupon_id, id AS redemption_id, order_ref, state, created_at AS began, NULL AS kind
        FROM coupons_redemption
        UNION ALL SELECT coupon_id, redemption_id, NULL, NULL, NULL, kind FROM coupons_couponevent
    ) AS said
    JOIN coupons_coupon AS coupon ON coupon.id = said.coupon_id
    JOIN coupons_campaign AS campaign ON campaign.id = coupon.campaign_id
    WHERE campaign.id = %(campaign)s
    GROUP BY coupon.id, campaign.id, redemption_id
) AS counted
"""
# Each row is an example.
DIFFERENCES: Final = {
    Kind.TWO_LIVE: """
SELECT coupon || ': orders ' || string_agg(order_ref, ', ' ORDER BY order_ref) FROM life WHERE live
GROUP BY coupon_id, coupon HAVING count(*) > 1
""",
    Kind.ORDER_TWICE: "SELECT use FROM life WHERE state IS NOT NULL GROUP BY coupon_id, use HAVING count(*) > 1",
    Kind.LIVE_THOUGH_REVOKED: """
SELECT use FROM life WHERE live AND coupon_id IN (SELECT coupon_id FROM life WHERE revoked)
""",
    Kind.OUTSIDE_VALIDITY: "SELECT use FROM life WHERE live AND outside",
    Kind.EVENT_WITHOUT_STATE: """
SELECT use || ': ' || state || ', by its events ' || state_by_events FROM life WHERE state <> state_by_events
""",
    Kind.WITHOUT_EVENT: "SELECT use FROM life WHERE state IS NOT NULL AND state_by_events IS NULL",
    Kind.OTHERS_EVENT: """
SELECT coupon || ', redemption ' || redemption_id FROM life
WHERE state IS NULL AND EXISTS (SELECT FROM coupons_redemption WHERE id = redemption_id)
""",
    Kind.EVENT_WITHOUT_REDEMPTION: """
SELECT coupon || ', redemption ' || redemption_id FROM life
WHERE state IS NULL AND redemption_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM coupons_redemption WHERE id = redemption_id)
""",
}
# Of no campaign, as only the coupon names it.
ORPHANS: Final = {
    Kind.WITHOUT_COUPON: """
SELECT 'order ' || order_ref || ', redemption ' || id FROM coupons_redemption
WHERE NOT EXISTS (SELECT FROM coupons_coupon WHERE id = coupon_id)
""",
    Kind.EVENT_WITHOUT_COUPON: """
SELECT kind || ', event ' || id FROM coupons_couponevent
WHERE NOT EXISTS (SELECT FROM coupons_coupon WHERE id = coupon_id)
""",
}


def read_lives(tables: TemporaryTables, campaign_id: UUID, ledger: Ledger) -> None:
    """Fills `life`, and counts the coupons by status. The caller shows both one moment."""
    tables.run(LIVES, {"campaign": campaign_id})
    coupons: QuerySet[Any, Any] = with_status(Coupon.objects.filter(campaign_id=campaign_id)).order_by()
    counts = coupons.values("status").annotate(count=Count("pk")).values_list("status", "count")
    for status, count in tables.rows(*counts.query.sql_with_params()):
        ledger.statuses[CouponStatus(status)] = count


def compare_lives(tables: TemporaryTables, ledger: Ledger) -> None:
    """Names the differences in `life`."""
    for kind, query in DIFFERENCES.items():
        for (example,) in tables.rows(query):
            ledger.found(kind, example)


def find_orphans(tables: TemporaryTables) -> OrphanLedger:
    ledger = OrphanLedger()
    for kind, query in ORPHANS.items():
        for (example,) in tables.rows(query):
            ledger.found(kind, example)
    return ledger
