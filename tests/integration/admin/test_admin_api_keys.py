"""API keys in the admin: made and shown once, revoked with a reason, never edited; only by those who may."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from coupons.auth.api_key_cache import api_key_cache
from coupons.auth.api_keys import create_api_key
from coupons.models import ApiKey
from tests.support.http import Api
from tests.support.operators import confirm, history_of, messages_of, press, sign_in, text_of
from tests.support.service import Service

LIST = reverse("admin:coupons_apikey_changelist")
ADD = reverse("admin:coupons_apikey_add")
MAKE = ("view_apikey", "add_apikey", "revoke_apikey")


@pytest.fixture
def operator(service: Service) -> Client:
    return sign_in(*MAKE)


def page_of(row: ApiKey) -> str:
    return reverse("admin:coupons_apikey_change", args=[row.pk])


def key_on(page: Any) -> str:
    return str(page.content.decode().partition('id="api-key">')[2].partition("<")[0])


def make(client: Client, **values: Any) -> Any:
    return client.post(ADD, {"name": "shop front", "scopes": ["apply", "read"], "reason": "a new shop", **values})


@pytest.mark.usefixtures("long_timeouts")
def test_a_key_is_made_shown_once_and_good(operator: Client, service: Service) -> None:
    campaign, other = service.campaign(10), service.campaign(10)

    page = make(operator, campaigns=[str(campaign.pk)])

    key = key_on(page)
    assert page["Cache-Control"].count("no-store") == 1
    api_key_cache.reset()
    assert Api(f"Bearer {key}").apply(campaign).status_code == 202
    assert Api(f"Bearer {key}").apply(other).status_code == 404
    row = ApiKey.objects.get()
    assert (row.name, row.scopes, row.created_by) == ("shop front", ["apply", "read"], "op")
    assert history_of(row) == ["Created with apply, read: a new shop"]
    for later in (LIST, page_of(row)):
        assert key not in operator.get(later).content.decode()
        assert row.prefix in text_of(operator.get(later))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": ""}, "This field is required."),
        ({"scopes": []}, "Select at least one scope."),
        ({"scopes": ["everything"]}, "everything is not one of the available choices."),
        ({"campaigns": ["0198c2a4-0000-7000-8000-000000000000"]}, "is not one of the available choices."),
        (
            {"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"},
            "expires_at, 2020-01-01T00:00:00",
        ),
        ({"expires_at_0": "soon"}, "Enter a valid date."),
    ],
)
def test_what_makes_no_sense_is_said_beside_the_field(operator: Client, values: dict[str, Any], words: str) -> None:
    assert words in text_of(make(operator, **values))
    assert not ApiKey.objects.exists()


def test_a_key_is_revoked_with_a_reason(operator: Client) -> None:
    row, _ = create_api_key(name="shop", scopes=["read"], actor="test")
    assert "Revoke …" in text_of(operator.get(page_of(row)))
    assert "stops working within seconds" in text_of(press(operator, row, "revoke_keys"))
    assert "Give a reason" in text_of(confirm(operator, row, "revoke_keys", reason=" "))
    row.refresh_from_db()
    assert row.revoked_at is None

    page = confirm(operator, row, "revoke_keys", reason="<script>stolen</script>")

    assert messages_of(page) == [f"success: {row} is revoked: every process refuses it within seconds."]
    assert "<script>stolen" not in page.content.decode()
    row.refresh_from_db()
    assert (row.revoked_by, row.revoked_reason) == ("op", "<script>stolen</script>")
    assert history_of(row) == ["Revoked: <script>stolen</script>"]
    assert "Revoke …" not in text_of(operator.get(page_of(row)))
    again = confirm(operator, row, "revoke_keys", reason="again")
    assert "was revoked at" in messages_of(again)[0]
    row.refresh_from_db()
    assert row.revoked_reason == "<script>stolen</script>"


def test_who_may_not_may_not(service: Service) -> None:
    row, _ = create_api_key(name="shop", scopes=["read"], actor="test")
    reader, stranger = sign_in("view_apikey", name="reader"), sign_in(name="stranger")

    assert reader.get(page_of(row)).status_code == 200
    assert "Revoke …" not in text_of(reader.get(page_of(row)))
    for client in (reader, stranger):
        assert client.get(ADD).status_code == 403
        assert make(client).status_code == 403
        assert confirm(client, row, "revoke_keys").status_code == 403
    assert stranger.get(LIST).status_code == 403
    row.refresh_from_db()
    assert row.revoked_at is None
    assert ApiKey.objects.count() == 1


def test_nothing_is_edited_or_deleted(operator: Client) -> None:
    row, _ = create_api_key(name="shop", scopes=["read"], actor="test")

    assert operator.post(page_of(row), {"name": "other"}).status_code == 403
    assert operator.post(reverse("admin:coupons_apikey_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    row.refresh_from_db()
    assert row.name == "shop"


def test_a_request_from_another_site_makes_nothing(service: Service) -> None:
    client = sign_in(*MAKE)
    client.handler.enforce_csrf_checks = True

    assert make(client).status_code == 403
    assert not ApiKey.objects.exists()
