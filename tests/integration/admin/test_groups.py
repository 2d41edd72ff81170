"""The groups that a migration makes: auditors see and can act on nothing, operators act, strangers see nothing."""

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from coupons.auth.api_keys import create_api_key
from coupons.models import (
    ApiKey,
    AuditEntry,
    Campaign,
    Coupon,
    CouponEvent,
    FailEventHistory,
    JobRun,
    Redemption,
)
from tests.support.coupons import coupon_in, use
from tests.support.failed_events import held
from tests.support.operators import (
    CAMPAIGNS,
    COUPONS,
    EVENTS,
    JOBS,
    campaign_page,
    confirm,
    event_page,
    run_action,
    sign_in,
    text_of,
)
from tests.support.service import Service

CODE = "3I5WCIMBPTHYQVRN47MENX547I"


def make_groups() -> None:
    """As the migration does it; a test that commits leaves an empty database behind."""
    import_module("coupons.migrations.0007_audit").make_groups(apps, None)
    import_module("coupons.migrations.0015_redemptions").extend_groups(apps, None)


def member_of(group: str) -> Client:
    make_groups()
    client = sign_in(name=group)
    User.objects.get(username=group).groups.add(Group.objects.get(name=group))
    return client


@pytest.fixture
def rows(service: Service) -> dict[str, Any]:
    """One of everything."""
    campaign, draft = service.campaign(), service.campaign(opened=False)
    key, _ = create_api_key(name="shop", scopes=["read"], actor="test")
    redeemed = coupon_in(campaign, "8", 8)
    use(redeemed)
    return {
        "campaign": campaign,
        "draft": draft,
        "event": held(campaign, "42"),
        "coupon": Coupon.objects.create(campaign=campaign, user_id="7", sequence=7, code=CODE),
        "redeemed": redeemed,
        "key": key,
        "job": JobRun.objects.create(name="retry_failed_coupons", started_at=campaign.created_at),
    }


def state_of_everything() -> list[Any]:
    tables = (Campaign, Coupon, Redemption, CouponEvent, FailEventHistory, ApiKey, AuditEntry, User, Group)
    return [list(table.objects.order_by("pk").values()) for table in tables]


def every_act(client: Client, rows: dict[str, Any]) -> dict[str, Any]:
    """Each button, each form and each action of the admin, as somebody would send it who knows the addresses."""
    page, why = reverse, {"reason": "mine"}
    steps = {
        name: confirm(client, rows["draft" if name == "open" else "campaign"], f"{name}_campaigns")
        for name in ("open", "pause", "resume")
    }
    lists = {
        f"{name} from the list": run_action(client, where, name, rows[row], confirmed="yes")
        for where, name, row in (
            (CAMPAIGNS, "open_campaigns", "draft"),
            (CAMPAIGNS, "pause_campaigns", "campaign"),
            (CAMPAIGNS, "resume_campaigns", "campaign"),
            (CAMPAIGNS, "close_campaigns", "campaign"),
            (EVENTS, "retry_selected", "event"),
            (EVENTS, "give_up_selected", "event"),
            (COUPONS, "return_redemptions", "redeemed"),
            (CAMPAIGNS, "delete_selected", "draft"),
            (COUPONS, "delete_selected", "coupon"),
            (JOBS, "delete_selected", "job"),
        )
    }
    deletes = {
        f"delete {kind}": client.post(page(f"admin:coupons_{kind}_delete", args=[rows[row].pk]), {"post": "yes"})
        for kind, row in (
            ("campaign", "draft"),
            ("coupon", "coupon"),
            ("faileventhistory", "event"),
            ("apikey", "key"),
            ("jobrun", "job"),
        )
    }
    return {
        **steps,
        **lists,
        **deletes,
        "close": confirm(client, rows["campaign"], "close_campaigns"),
        "create": client.post(page("admin:coupons_campaign_add"), {"name": "x", "quantity": 1, **why}),
        "edit": client.post(campaign_page(rows["campaign"]), {"name": "x", "quantity": 99, **why}),
        "retry": confirm(client, rows["event"], "retry_selected"),
        "give up": confirm(client, rows["event"], "give_up_selected"),
        "edit an event": client.post(event_page(rows["event"]), {"error_message": "x"}),
        "make a key": client.post(page("admin:coupons_apikey_add"), {"name": "x", "scopes": ["read"], **why}),
        "revoke a key": confirm(client, rows["key"], "revoke_keys"),
        "return a redemption": return_redemption(client, rows["redeemed"]),
        "revoke a coupon": confirm(client, rows["coupon"], "revoke_coupons"),
        "edit a coupon": client.post(page("admin:coupons_coupon_change", args=[rows["coupon"].pk]), {"code": "X"}),
        "add a user": client.post(page("admin:auth_user_add"), {"username": "x", **why}),
        "edit the own rights": client.post(
            page("admin:auth_user_change", args=[client.session["_auth_user_id"]]), {"is_superuser": "on", **why}
        ),
        "change a password": client.post(page("admin:auth_user_password_change", args=[1]), why),
        "add a group": client.post(page("admin:auth_group_add"), {"name": "x", **why}),
    }


def return_redemption(client: Client, coupon: Coupon) -> Any:
    """With what the page that asks would name."""
    values = {"action": "return_redemptions", "reason": "mine", "confirmed": "yes"}
    named = {"redemption": str(Redemption.objects.get(coupon=coupon).pk)}
    return client.post(reverse("admin:coupons_coupon_change", args=[coupon.pk]), {**values, **named}, follow=True)


def pages_of(rows: dict[str, Any]) -> list[str]:
    lists = ["campaign", "coupon", "faileventhistory", "apikey", "jobrun", "auditentry"]
    one = {"campaign": "campaign", "coupon": "coupon", "faileventhistory": "event", "apikey": "key", "jobrun": "job"}
    return [
        reverse("admin:index"),
        *(reverse(f"admin:coupons_{name}_changelist") for name in lists),
        *(reverse(f"admin:coupons_{kind}_change", args=[rows[row].pk]) for kind, row in one.items()),
        *(reverse(f"admin:coupons_{kind}_history", args=[rows[row].pk]) for kind, row in one.items()),
        reverse("admin:coupons_auditentry_change", args=[AuditEntry.objects.order_by("pk")[0].pk]),
    ]


def test_the_groups_exist_with_their_rights_after_migrating(db: None) -> None:
    Group.objects.all().delete()
    Permission.objects.all().delete()

    make_groups()

    migration = import_module("coupons.migrations.0007_audit")
    for name, rights in migration.GROUPS.items():
        group = Group.objects.get(name=name)
        found = group.permissions.values_list("content_type__app_label", "codename")
        assert {".".join(right) for right in found} >= set(rights)
    assert Group.objects.get(name="operators").permissions.filter(codename="revoke_coupon").exists()
    assert not Group.objects.get(name="auditors").permissions.exclude(codename__startswith="view_").exists()


def test_a_group_of_that_name_keeps_what_it_has(db: None) -> None:
    Group.objects.all().delete()
    own = Permission.objects.get(codename="view_session")
    Group.objects.create(name="operators").permissions.add(own)

    make_groups()
    make_groups()

    rights = Group.objects.get(name="operators").permissions
    assert rights.filter(pk=own.pk).exists()
    assert rights.filter(codename="operate_campaign").exists()


def test_an_auditor_sees_every_page(rows: dict[str, Any]) -> None:
    auditor = member_of("auditors")

    for page in [*pages_of(rows), reverse("admin:auth_user_changelist"), reverse("admin:auth_group_changelist")]:
        assert (page, auditor.get(page).status_code) == (page, 200)
    user = User.objects.get(username="auditors")
    assert "auditors" in text_of(auditor.get(reverse("admin:auth_user_change", args=[user.pk])))


@pytest.mark.attack(
    "a right that one has not", "each button, form and action of the admin, sent by an auditor", "403, nothing changed"
)
def test_an_auditor_can_act_on_nothing(rows: dict[str, Any]) -> None:
    auditor = member_of("auditors")
    auditor.raise_request_exception = True
    before = state_of_everything()

    answers = every_act(auditor, rows)

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 403)
    assert state_of_everything() == before


def test_who_is_in_no_group_sees_nothing(rows: dict[str, Any]) -> None:
    stranger = sign_in(name="stranger")

    seen = {page: stranger.get(page).status_code for page in pages_of(rows) if page != reverse("admin:index")}
    assert seen == dict.fromkeys(seen, 403)
    answers = every_act(stranger, rows)
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 403)


def test_an_operator_acts_on_everything_but_people(rows: dict[str, Any]) -> None:
    operator = member_of("operators")
    for page in pages_of(rows):
        assert (page, operator.get(page).status_code) == (page, 200)

    answers = every_act(operator, rows)

    refused = {name for name, answer in answers.items() if answer.status_code == 403}
    people = {"add a user", "edit the own rights", "change a password", "add a group"}
    finals = {name for name in answers if name.startswith("delete")} | {"edit an event", "edit a coupon"}
    assert refused == people | finals
    assert Campaign.objects.get(pk=rows["campaign"].pk).quantity != 99, "it was closed before it was edited"
    assert {name: answer.status_code for name, answer in answers.items() if answer.status_code >= 404} == {}
    done = set(AuditEntry.objects.filter(actor="operators").values_list("what", flat=True))
    assert {"Opened", "Paused", "Resumed", "Closed", "Retried now: issued", "Created with read", "Revoked"} <= done
    assert "Returned the redemption of order 1001" in done
    assert AuditEntry.objects.filter(actor="operators", kind="coupons.coupon", what="Revoked").exists()
    assert not User.objects.filter(username="x").exists()


@pytest.mark.attack(
    "a code without the right", "an auditor's list, page, search and history of coupons", "its last four"
)
def test_a_code_is_shown_to_operators_and_hidden_from_auditors(rows: dict[str, Any]) -> None:
    detail = reverse("admin:coupons_coupon_change", args=[rows["coupon"].pk])
    operator, auditor = member_of("operators"), member_of("auditors")

    for page in (reverse(COUPONS), detail):
        assert CODE in operator.get(page).content.decode()
        html = auditor.get(page).content.decode()
        assert f"…{CODE[-4:]}" in html
        assert CODE[:-4] not in html
    by_user = auditor.get(reverse(COUPONS), {"q": "7"}).content.decode()
    assert "…547I" in by_user
    assert CODE not in by_user
