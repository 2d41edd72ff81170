"""Who did what, when and why: one row for each act, in its transaction, and final."""

import getpass
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from coupons import audit
from coupons.auth.api_keys import create_api_key, revoke_api_key
from coupons.campaigns import lifecycle
from coupons.issuing.failed_events import give_up_events
from coupons.models import ApiKey, AuditEntry, Campaign, CampaignState, FailEventHistory
from tests.support.commands import run
from tests.support.failed_events import failed, held
from tests.support.http import Api
from tests.support.operators import (
    CAMPAIGNS,
    EVENTS,
    OPERATE,
    campaign_page,
    confirm,
    event_page,
    history_of,
    run_action,
    sign_in,
    text_of,
    values_of,
)
from tests.support.service import Service

KEYS = ("view_apikey", "add_apikey", "revoke_apikey")


def entries() -> list[tuple[str, str, str, str]]:
    found = AuditEntry.objects.exclude(actor="test").order_by("pk")
    return list(found.values_list("actor", "kind", "what", "reason"))


# --- asked for -----------------------------------------------------------------------------------------------


def change(client: Client, campaign: Campaign, reason: str) -> Any:
    return client.post(campaign_page(campaign), values_of(client, campaign, quantity=25, reason=reason))


CAMPAIGN_ACTS: dict[str, tuple[str, Callable[[Client, Campaign, str], Any]]] = {
    "Opened": ("draft", lambda c, row, why: confirm(c, row, "open_campaigns", reason=why)),
    "Paused": ("open", lambda c, row, why: confirm(c, row, "pause_campaigns", reason=why)),
    "Resumed": ("paused", lambda c, row, why: confirm(c, row, "resume_campaigns", reason=why)),
    "Closed": ("open", lambda c, row, why: confirm(c, row, "close_campaigns", reason=why)),
    "Changed quantity from 10 to 25": ("open", change),
    "Paused ": (
        "open",
        lambda c, row, why: run_action(c, CAMPAIGNS, "pause_campaigns", row, reason=why, confirmed="yes"),
    ),
}


@pytest.mark.parametrize("what", CAMPAIGN_ACTS)
def test_each_act_on_a_campaign_records_its_reason(service: Service, what: str) -> None:
    state, do = CAMPAIGN_ACTS[what]
    campaign = service.campaign(10, opened=state != "draft")
    if state == "paused":
        lifecycle.pause_campaign(campaign_id=campaign.pk, actor="test")
    before = Campaign.objects.values().get()
    client = sign_in(*OPERATE)

    page = do(client, campaign, "  ")
    assert "Give a reason" in text_of(page)
    assert (Campaign.objects.values().get(), entries()) == (before, [])

    do(client, campaign, " the printer\nbroke ")
    ((actor, kind, done, reason),) = entries()
    assert (actor, kind, done) == ("op", "coupons.campaign", what.strip())
    assert reason.split() == ["the", "printer", "broke"]
    assert Campaign.objects.values().get() != before


def test_a_new_campaign_and_a_new_key_need_one_too(service: Service) -> None:
    client = sign_in(*OPERATE, *KEYS)
    for page, values in (
        ("admin:coupons_campaign_add", {"name": "x", "quantity": 1}),
        ("admin:coupons_apikey_add", {"name": "x", "scopes": ["read"]}),
    ):
        assert "Give a reason" in text_of(client.post(reverse(page), {**values, "reason": " "}))
        client.post(reverse(page), {**values, "reason": "spring"})

    assert entries() == [
        ("op", "coupons.campaign", "Created as a draft with quantity 1", "spring"),
        ("op", "coupons.apikey", "Created with read", "spring"),
    ]
    assert (Campaign.objects.count(), ApiKey.objects.count()) == (1, 1)


def test_a_retry_needs_a_reason_from_button_and_list(service: Service) -> None:
    campaign = service.campaign()
    one, other = held(campaign, "42", 1), held(campaign, "43", 2)
    client = sign_in(*OPERATE)

    assert "Give a reason" in text_of(confirm(client, one, "retry_selected", reason=""))
    assert "Give a reason" in text_of(run_action(client, EVENTS, "retry_selected", other, reason=" ", confirmed="yes"))
    assert entries() == []
    assert set(FailEventHistory.objects.values_list("attempts", flat=True)) == {0}

    confirm(client, one, "retry_selected", reason="rebuilt")
    run_action(client, EVENTS, "retry_selected", other, reason="rebuilt too", confirmed="yes")
    assert (history_of(one), history_of(other)) == (
        ["Retried now: issued: rebuilt"],
        ["Retried now: issued: rebuilt too"],
    )


def test_a_scheduled_retry_is_nobody_s_act(service: Service) -> None:
    event = held(service.campaign(), "42")
    FailEventHistory.objects.update(next_attempt_at=event.created_at)

    assert run("retry_failed_coupons").code == 0
    event.refresh_from_db()
    assert (event.event_status, entries()) == ("SUCCESS", [])


# --- in one transaction ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["create", "open", "pause", "change", "create a key", "revoke a key", "give up"])
def test_what_cannot_be_kept_is_not_done(service: Service, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The row stands in the same transaction: where it fails, so does the act."""
    draft, campaign, event = service.campaign(opened=False), service.campaign(), failed()
    key, _ = create_api_key(name="shop", scopes=["read"], actor="test")
    acts: dict[str, Callable[[], object]] = {
        "create": lambda: lifecycle.create_campaign(name="x", quantity=1, actor="op"),
        "open": lambda: lifecycle.open_campaign(campaign_id=draft.pk, actor="op"),
        "pause": lambda: lifecycle.pause_campaign(campaign_id=campaign.pk, actor="op"),
        "change": lambda: lifecycle.change_campaign(campaign_id=campaign.pk, changes={"quantity": 99}, actor="op"),
        "create a key": lambda: create_api_key(name="x", scopes=["read"], actor="op"),
        "revoke a key": lambda: revoke_api_key(prefix=key.prefix, actor="op", reason="x"),
        "give up": lambda: give_up_events(event_ids=[event.pk], actor="op", reason="x"),
    }

    def refuse(**given: object) -> None:
        raise DatabaseError("no room")

    def everything() -> list[Any]:
        tables = (Campaign, ApiKey, FailEventHistory, AuditEntry)
        return [list(table.objects.order_by("pk").values()) for table in tables]

    before = everything()
    monkeypatch.setattr(audit, "record_all", refuse)
    with pytest.raises(DatabaseError, match="no room"):
        acts[name]()
    assert everything() == before


# --- by others than the admin -----------------------------------------------------------------------------------


def test_a_command_leaves_the_system_s_user_and_the_reason(service: Service) -> None:
    who = f"manage.py:{getpass.getuser()}"
    campaign_id = run("create_campaign", "--name", "x", "--quantity", 5, "--open", "--reason", "spring").out.strip()
    run("change_campaign", campaign_id, "--quantity", 7, "--reason", "more came")
    run("pause_campaign", campaign_id)
    run("close_campaign", campaign_id, "--reason", "over")
    run("create_api_key", "--name", "x", "--scope", "read", "--reason", "partner")
    run("revoke_api_key", ApiKey.objects.get().prefix, "--reason", "left")

    assert [(what, reason) for actor, _, what, reason in entries() if actor == who] == [
        ("Created as a draft with quantity 5", "spring"),
        ("Opened", "spring"),
        ("Changed quantity from 5 to 7", "more came"),
        ("Paused", ""),
        ("Closed", "over"),
        ("Created with read", "partner"),
        ("Revoked", "left"),
    ]


def test_a_service_is_recorded_by_key_name_without_a_reason(service: Service) -> None:
    campaign = service.campaign()

    assert Api().act(campaign, "pause").status_code == 200

    ((actor, _, what, reason),) = entries()
    assert actor.startswith("api:key-")
    assert (what, reason) == ("Paused", "")


# --- people and their rights --------------------------------------------------------------------------------------


def test_who_gives_rights_says_why_and_the_rights_are_named(admin_client: Client) -> None:
    group = Group.objects.create(name="helpers")
    user = User.objects.create_user("kim", is_staff=True)
    page = reverse("admin:auth_user_change", args=[user.pk])
    joined = user.date_joined
    values = {
        "username": "kim", "is_active": "on", "is_staff": "on", "groups": [group.pk],
        "date_joined_0": f"{joined:%Y-%m-%d}", "date_joined_1": f"{joined:%H:%M:%S}",
    }  # fmt: skip

    assert "Give a reason" in text_of(admin_client.post(page, {**values, "reason": ""}))
    assert not user.groups.exists()
    admin_client.post(page, {**values, "reason": "joined the team"})

    ((actor, kind, what, reason),) = entries()
    assert (actor, kind, reason) == ("admin", "auth.user", "joined the team")
    assert what.endswith("Has now: is_active, is_staff, helpers.")
    assert user.groups.get() == group


def test_new_people_passwords_and_groups_leave_a_row_each(admin_client: Client) -> None:
    password = {"usable_password": "true", "password1": "a long pass phrase", "password2": "a long pass phrase"}
    add, groups = reverse("admin:auth_user_add"), reverse("admin:auth_group_add")
    assert "Give a reason" in text_of(admin_client.post(add, {"username": "lee", **password}))
    admin_client.post(add, {"username": "lee", **password, "reason": "new"})
    lee = User.objects.get(username="lee")
    reset = reverse("admin:auth_user_password_change", args=[lee.pk])
    assert "Give a reason" in text_of(admin_client.post(reset, {**password, "set-password": "1"}))
    admin_client.post(reset, {**password, "set-password": "1", "reason": "forgotten"})
    admin_client.post(groups, {"name": "helpers", "reason": "helpers help"})

    assert [(kind, reason) for _, kind, _, reason in entries()] == [
        ("auth.user", "new"), ("auth.user", "forgotten"), ("auth.group", "helpers help"),
    ]  # fmt: skip
    assert 'name="reason"' in admin_client.get(reset).content.decode()
    assert "a long pass" not in str(entries())


def test_a_person_s_own_password_is_noted(db: None) -> None:
    User.objects.create_superuser("kim", password="correct horse")
    client = Client()
    client.login(username="kim", password="correct horse")
    new = {"new_password1": "battery staple!", "new_password2": "battery staple!"}

    page = client.post(reverse("admin:password_change"), {"old_password": "correct horse", **new})

    assert page.status_code == 302
    assert entries() == [("kim", "auth.user", "Changed the own password", "")]


def test_nobody_deletes_a_person_or_a_group(admin_client: Client) -> None:
    user, group = User.objects.create_user("kim"), Group.objects.create(name="helpers")

    for page in (
        reverse("admin:auth_user_delete", args=[user.pk]),
        reverse("admin:auth_group_delete", args=[group.pk]),
    ):
        assert admin_client.post(page, {"post": "yes"}).status_code == 403
    assert run_action(admin_client, "admin:auth_user_changelist", "delete_selected", user).status_code == 200
    assert User.objects.filter(pk=user.pk).exists()


# --- final ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE coupons_auditentry SET reason = 'another'",
        "DELETE FROM coupons_auditentry",
        "DELETE FROM coupons_auditentry WHERE id = -1",
        "TRUNCATE coupons_auditentry",
        "INSERT INTO coupons_auditentry SELECT * FROM coupons_auditentry ON CONFLICT (id) DO UPDATE SET reason = 'x'",
    ],
)
@pytest.mark.attack(
    "editing the audit", "UPDATE, DELETE, TRUNCATE and an upsert, by the service's own role", "refused by a trigger"
)
def test_postgresql_refuses_whoever_asks(db: None, statement: str) -> None:
    audit.record(actor="op", row=User(pk=1, username="kim"), what="Created", reason="new")

    refused = pytest.raises(IntegrityError, match="coupons_auditentry is final")
    with connection.cursor() as cursor, refused, transaction.atomic():
        cursor.execute(statement)

    assert entries() == [("op", "auth.user", "Created", "new")]


def test_a_superuser_can_only_look(admin_client: Client) -> None:
    audit.record(actor="op", row=User(pk=1, username="kim"), what="Created", reason="new")
    entry = AuditEntry.objects.get()
    page = reverse("admin:coupons_auditentry_change", args=[entry.pk])

    assert "Created" in text_of(admin_client.get(page))
    assert "_save" not in admin_client.get(page).content.decode()
    assert admin_client.post(page, {"reason": "another"}).status_code == 403
    assert admin_client.post(reverse("admin:coupons_auditentry_delete", args=[entry.pk])).status_code == 403
    assert admin_client.get(reverse("admin:coupons_auditentry_add")).status_code == 403
    audit_list = "admin:coupons_auditentry_changelist"
    assert run_action(admin_client, audit_list, "delete_selected", entry).status_code == 403
    entry.refresh_from_db()
    assert entry.reason == "new"


# --- shown ---------------------------------------------------------------------------------------------------


def test_history_and_list_show_actor_act_and_reason(service: Service) -> None:
    campaign = service.campaign(opened=False)
    client = sign_in(*OPERATE, "view_auditentry")
    confirm(client, campaign, "open_campaigns", reason="it is <ten>")

    history = client.get(reverse("admin:coupons_campaign_history", args=[campaign.pk]))
    assert "op Opened it is <ten>" in text_of(history)
    listed = client.get(reverse("admin:coupons_auditentry_changelist"), {"q": "op"})
    assert "op Opened campaign test it is <ten>" in text_of(listed)
    by_object = client.get(reverse("admin:coupons_auditentry_changelist"), {"q": str(campaign.pk)})
    assert len(by_object.context["cl"].result_list) == 2  # created by the test itself, and opened
    assert client.get(event_page(failed())).status_code == 200
    assert campaign.state == CampaignState.DRAFT


def test_what_people_did_before_is_taken_over(admin_user: User) -> None:
    migration = import_module("coupons.migrations.0007_audit")
    campaign = lifecycle.create_campaign(name="x", quantity=1, actor="test")
    LogEntry.objects.log_actions(admin_user.pk, [campaign], CHANGE, "Opened.")

    with connection.cursor() as cursor:
        cursor.execute(migration.TAKE_OVER)

    assert entries() == [("admin", "coupons.campaign", "Opened.", "")]
