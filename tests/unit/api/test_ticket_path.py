"""Where a ticket is, worked out in two parts, is what Django's `reverse` says."""

import string

import pytest
from django.urls import reverse

from coupons.api.tickets import ticket_path

CAMPAIGN = "6f1f7a52-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    "user_id", ["42", "-", "auth0|a.b", "a+b@c.example", string.ascii_letters + ".:_@|+-", "x" * 128]
)
def test_it_is_as_reverse_has_it(user_id: str) -> None:
    assert ticket_path(CAMPAIGN, user_id) == reverse("ticket", args=[CAMPAIGN, user_id])
