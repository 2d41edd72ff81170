"""What is made as a plain dict, for speed, is what its serializer makes, which the OpenAPI document is made from."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from coupons.admission.gate import Held, Outcome
from coupons.api.problems import Code, Problem, refusal
from coupons.api.redemption_serializers import CheckDocument, RedemptionDocument
from coupons.api.redemptions import check_document, document_of
from coupons.api.serializers import AppliedDocument, ProblemDocument
from coupons.api.tickets import applied
from coupons.models import RedemptionState
from coupons.redemption.coupon_life import CouponLife, OrderUse
from coupons.redemption.redeem import RedemptionResult

CAMPAIGN = UUID("0198c2a4-6f3e-7a51-9c0e-5d1f0b1c2d3e")
NOW = datetime(2026, 12, 1, 10, 0, 0, 123_456, tzinfo=UTC)
HOLD = OrderUse(CAMPAIGN, "order 1", RedemptionState.HELD, NOW + timedelta(minutes=5), None)
LIFE = CouponLife(
    now=NOW,
    id=1,
    campaign_id=CAMPAIGN,
    user_id="42",
    sequence=7,
    code="7Q2M-K0VX-94RT-D8HA",
    issued_at=NOW,
    valid_from=NOW,
    valid_until=None,
    metadata={"value": 5000, "of": ["shoes"]},
    is_revoked=False,
    live=HOLD,
    asked=HOLD,
)
PROBLEMS = [
    *(Problem(code) for code in Code),
    Problem(Code.PAUSED, "Admission goes on later.", 1),
    Problem(Code.INVALID, "user_id: Must be a string.", extra={"errors": {"user_id": ["Must be a string."]}}),
    refusal(Outcome.NOT_OPEN, 1_796_000_000_123, 1_795_000_000_000),
]


def test_a_promise() -> None:
    document = applied(str(CAMPAIGN), Held(user_id="auth0|a.b", sequence=7, score=1.0))

    assert AppliedDocument(document).data == document


def test_a_redemption() -> None:
    document = document_of(RedemptionResult(LIFE, HOLD, is_new=True))

    assert RedemptionDocument(document).data == document


@pytest.mark.parametrize("user_id", [None, "42", "43"])
def test_a_check(user_id: str | None) -> None:
    document = check_document(LIFE, user_id=user_id)

    assert CheckDocument(document).data == document


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda each: each.code)
def test_a_problem(problem: Problem) -> None:
    assert ProblemDocument(problem.document()).data == problem.document()
