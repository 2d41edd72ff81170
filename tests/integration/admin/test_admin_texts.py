"""Names and reasons as people type them: emoji of several parts stay whole, decomposed letters are found."""

import unicodedata
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from coupons import audit
from coupons.auth.api_keys import create_api_key
from coupons.campaigns.lifecycle import create_campaign
from coupons.models import ApiKey, AuditEntry, Campaign
from tests.support.commands import run
from tests.support.http import Api
from tests.support.operators import CAMPAIGNS, OPERATE, campaign_page, form_on, sign_in
from tests.support.service import Service

HANGUL = "쿠폰 이벤트"
DECOMPOSED = unicodedata.normalize("NFD", HANGUL)
FAMILY = "👨\u200d👩\u200d👧 sale 🏳\ufe0f\u200d🌈"
ADD = reverse("admin:coupons_campaign_add")


@pytest.fixture
def operator(service: Service) -> Client:
    return sign_in(*OPERATE, "view_apikey", "add_apikey", "view_auditentry")


def listed(client: Client, address: str, term: str) -> list[str]:
    return [str(row) for row in client.get(address, {"q": term}).context["cl"].result_list]


@pytest.mark.parametrize("name", [FAMILY, "می\u200cشود", "क्\u200dष", "left\u200eright", "black\u202edoor"])
def test_editing_a_name_keeps_the_rest_of_it(service: Service, operator: Client, name: str) -> None:
    campaign = create_campaign(name=name, quantity=1, actor="test")
    shown = form_on(operator.get(campaign_page(campaign)))

    refused = operator.post(campaign_page(campaign), {**shown, "name": f"{shown['name'][0]} 2", "reason": ""})
    operator.post(campaign_page(campaign), form_on(refused, reason="another year"))

    assert Campaign.objects.get().name == f"{name} 2"


def test_a_page_shows_an_emoji_of_several_parts_whole(service: Service, operator: Client) -> None:
    create_campaign(name=FAMILY, quantity=1, actor="test")

    assert FAMILY in operator.get(reverse(CAMPAIGNS)).content.decode()


def test_a_decomposed_name_is_composed_wherever_it_enters(service: Service, operator: Client) -> None:
    operator.post(ADD, {"name": DECOMPOSED, "quantity": 1, "reason": DECOMPOSED})
    assert Api().post("campaigns", {"name": DECOMPOSED, "quantity": 1}).status_code == 201
    campaign_id = run("create_campaign", "--name", DECOMPOSED, "--quantity", 1).out.strip()
    run("change_campaign", campaign_id, "--name", DECOMPOSED, "--reason", DECOMPOSED)
    operator.post(reverse("admin:coupons_apikey_add"), {"name": DECOMPOSED, "scopes": ["read"], "reason": DECOMPOSED})
    run("create_api_key", "--name", DECOMPOSED, "--scope", "read")

    assert set(Campaign.objects.values_list("name", flat=True)) == {HANGUL}
    assert set(ApiKey.objects.values_list("name", flat=True)) == {HANGUL}
    assert set(AuditEntry.objects.values_list("reason", flat=True)) == {"", HANGUL}


def test_a_name_is_found_by_either_form(service: Service, operator: Client) -> None:
    create_campaign(name=DECOMPOSED, quantity=1, actor="test")
    create_api_key(name=HANGUL, scopes=["read"], actor="test")

    for address in (reverse(CAMPAIGNS), reverse("admin:coupons_apikey_changelist")):
        assert len(listed(operator, address, DECOMPOSED[:6])) == 1
        assert len(listed(operator, address, HANGUL[:2])) == 1


def test_people_and_groups_are_composed_and_found_too(admin_client: Client) -> None:
    user, groups = User.objects.create_user("kim"), reverse("admin:auth_group_add")
    page = reverse("admin:auth_user_change", args=[user.pk])
    admin_client.post(page, form_on(admin_client.get(page), first_name=DECOMPOSED, reason="x"))
    admin_client.post(groups, {"name": DECOMPOSED, "reason": "x"})

    assert User.objects.get(username="kim").first_name == HANGUL
    assert Group.objects.filter(name=HANGUL).count() == 1
    assert listed(admin_client, reverse("admin:auth_group_changelist"), DECOMPOSED) == [HANGUL]
    assert listed(admin_client, reverse("admin:auth_user_changelist"), DECOMPOSED) == ["kim"]


def test_an_actor_is_found_by_a_decomposed_name(service: Service, operator: Client) -> None:
    audit.record(actor=HANGUL, row=create_campaign(name="x", quantity=1, actor="test"), what="Looked", reason="")

    assert len(listed(operator, reverse("admin:coupons_auditentry_changelist"), DECOMPOSED)) == 1


def test_stored_names_are_composed_by_the_migration(service: Service) -> None:
    campaign = create_campaign(name="x", quantity=1, actor="test")
    Campaign.objects.update(name=DECOMPOSED)
    for name in (DECOMPOSED, HANGUL):
        Group.objects.create(name=name)

    import_module("coupons.migrations.0013_given_answers").compose_names(apps, None)

    assert Campaign.objects.get(pk=campaign.pk).name == HANGUL
    assert set(Group.objects.values_list("name", flat=True)) == {DECOMPOSED, HANGUL}, "a group's name is unique"


def test_a_name_that_grows_too_long_is_a_bad_request(service: Service) -> None:
    """A few characters become several when they are composed."""
    answer = Api().post("campaigns", {"name": "\u0958" * 200, "quantity": 1})

    assert answer.status_code == 400
