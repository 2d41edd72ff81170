"""What is made as a plain dict, for speed, is what its serializer makes, which the OpenAPI document is made from."""

from uuid import UUID

import pytest

from coupons.admission.gate import Held, Outcome
from coupons.api.problems import Code, Problem, refusal
from coupons.api.serializers import AppliedDocument, ProblemDocument
from coupons.api.tickets import applied

CAMPAIGN = UUID("0198c2a4-6f3e-7a51-9c0e-5d1f0b1c2d3e")
PROBLEMS = [
    *(Problem(code) for code in Code),
    Problem(Code.PAUSED, "Admission goes on later.", 1),
    Problem(Code.INVALID, "user_id: Must be a string.", extra={"errors": {"user_id": ["Must be a string."]}}),
    refusal(Outcome.NOT_OPEN, 1_796_000_000_123, 1_795_000_000_000),
]


def test_a_promise() -> None:
    document = applied(str(CAMPAIGN), Held(user_id="auth0|a.b", sequence=7, score=1.0))

    assert AppliedDocument(document).data == document


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda each: each.code)
def test_a_problem(problem: Problem) -> None:
    assert ProblemDocument(problem.document()).data == problem.document()
