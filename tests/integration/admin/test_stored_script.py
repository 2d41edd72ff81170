"""What came from Kafka, from users and from operators: on no page does it run, hide or turn lines round.

Everything that somebody may write is written with a script, control characters and right-to-left overrides in it. Then
every page that a link leads to is looked at, and those that follow an action.
"""

import json
import logging
import logging.config
import re
import sys
from collections import Counter
from hashlib import sha256
from html import unescape
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from coupons import audit
from coupons.auth.api_keys import create_api_key
from coupons.campaigns import lifecycle
from coupons.models import (
    ApiKey,
    Campaign,
    Coupon,
    CouponEvent,
    FailAttempt,
    FailCode,
    FailEventHistory,
    JobRun,
    Redemption,
)
from tests.support.commands import run
from tests.support.http import Api
from tests.support.operators import CAMPAIGNS, EVENTS, campaign_page, confirm, form_on, press, run_action, values_of
from tests.support.service import Service

SCRIPT = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>"
UNSEEN = "\x1b[2J\x07\x7f\x85\x9b\u200b\u2028\u202e\u2066\ufeff"
EVIL = f"{SCRIPT}{UNSEEN}"
RUNS = ("<script>alert", "<img src=x", "onerror=alert(2)>")


def fill(campaign: Campaign) -> None:
    """Each text that comes from outside, as bad as its column takes it."""
    payload = json.dumps({"user_id": EVIL, "x": f"{EVIL}\0"}, ensure_ascii=False).encode()
    for number, (body, code) in enumerate([(payload, FailCode.INVALID_MESSAGE), (EVIL.encode(), FailCode.CONFLICT)]):
        event = FailEventHistory.objects.create(
            campaign=campaign,
            campaign_ref=EVIL,
            user_id=EVIL,
            sequence=number + 1,
            payload=body,
            payload_hash=sha256(body).hexdigest(),
            error_code=code,
            error_message=EVIL,
            topic=f"t{EVIL}",
            partition=0,
            offset=number,
            given_up_at=timezone.now() if number else None,
            given_up_by=EVIL if number else "",
            given_up_reason=EVIL if number else "",
        )
        FailAttempt.objects.create(event=event, started_at=timezone.now(), actor=EVIL, error_message=EVIL)
    coupon = Coupon.objects.create(campaign=campaign, user_id=EVIL, sequence=1, code=f"<b>{UNSEEN}")
    used = Redemption.objects.create(coupon=coupon, order_ref=EVIL, state="redeemed", redeemed_at=timezone.now())
    CouponEvent.objects.create(coupon=coupon, redemption=used, kind="redeemed", actor=EVIL, reason=EVIL)
    Campaign.objects.filter(pk=campaign.pk).update(metadata={EVIL.replace("\0", ""): EVIL})
    key, _ = create_api_key(
        name=f"{SCRIPT}\u202e", scopes=["read"], campaign_ids=[campaign.pk], actor=EVIL, reason=EVIL
    )
    ApiKey.objects.filter(pk=key.pk).update(name=EVIL, revoked_at=timezone.now(), revoked_by=EVIL, revoked_reason=EVIL)
    create_api_key(name=f"{SCRIPT}\u202e", scopes=["read"], actor=EVIL)
    JobRun.objects.create(name=EVIL[:64], started_at=timezone.now(), succeeded=False, result=EVIL)
    audit.record(actor=EVIL, row=campaign, what=EVIL, reason=EVIL)
    Group.objects.create(name=EVIL)


@pytest.fixture
def operator(service: Service) -> Client:
    user = User.objects.create_superuser(EVIL, first_name=EVIL, last_name=EVIL)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def campaign(service: Service) -> Campaign:
    made = service.campaign(10)
    lifecycle.change_campaign(campaign_id=made.pk, changes={"name": EVIL}, actor="test")
    fill(made)
    return Campaign.objects.get(pk=made.pk)


def assert_harmless(page: Any, where: str) -> None:
    html = page.content.decode()
    assert page["Content-Type"].startswith("text/html"), where
    assert not [text for text in RUNS if text in html], where
    assert not set(UNSEEN.replace("[2J", "")) & set(html), where
    assert all(character in "\n\t" or ord(character) >= 32 for character in html), where


def links_on(page: Any, where: str) -> set[str]:
    """The addresses of the admin's own pages that it links to, but not the ways back into a filtered list."""
    found = {urljoin(where, unescape(text)) for text in re.findall(r'href="([^"]*)"', page.content.decode())}
    return {url for url in found if url.startswith("/admin/") and "_changelist_filters" not in url}


@pytest.mark.attack(
    "stored script",
    "scripts, controls and right-to-left overrides in names, payloads, user ids, errors, reasons, users; each page "
    "that a link leads to",
    "escaped, and made visible",
)
def test_no_admin_page_runs_or_hides_outside_text(operator: Client, campaign: Campaign) -> None:
    paths: Counter[str] = Counter()
    found = {reverse("admin:index"), f"{reverse('admin:coupons_coupon_changelist')}?q=%3Cscript%3Ealert%E2%80%AE"}
    to_see = sorted(found)
    while to_see:
        where = to_see.pop(0)
        path = urlsplit(where).path
        paths[path] += 1
        if paths[path] > 2:  # filters multiply each other; two looks at a list show what it shows
            continue
        page = operator.get(where)
        if page.status_code == 200:
            assert_harmless(page, where)
            new = links_on(page, where) - found
            found |= new
            to_see += sorted(new)

    assert {campaign_page(campaign), reverse("admin:auth_user_changelist"), reverse(EVENTS)} <= set(paths)
    for kind in ("campaign", "coupon", "faileventhistory", "apikey", "jobrun", "auditentry"):
        assert any(re.fullmatch(rf"/admin/coupons/{kind}/[^/]+/change/", path) for path in paths), kind
        assert any(re.fullmatch(rf"/admin/coupons/{kind}/[^/]+/history/", path) for path in paths), kind


def test_no_message_and_no_page_after_an_act_does_either(operator: Client, campaign: Campaign) -> None:
    event, key = FailEventHistory.objects.order_by("pk")[0], ApiKey.objects.get(revoked_at=None)
    coupon, found = Coupon.objects.get(), reverse("admin:coupons_coupon_changelist")
    returning = press(operator, coupon, "return_redemptions", reason=EVIL)
    pages = {
        "pause, asked": press(operator, campaign, "pause_campaigns", reason=EVIL),
        "pause": confirm(operator, campaign, "pause_campaigns", reason=EVIL),
        "open, refused": confirm(operator, campaign, "open_campaigns", reason=EVIL),
        "resume from the list": run_action(
            operator, CAMPAIGNS, "resume_campaigns", campaign, reason=EVIL, confirmed="yes"
        ),
        "close, asked": run_action(operator, CAMPAIGNS, "close_campaigns", campaign, reason=EVIL),
        "give up, asked": run_action(operator, EVENTS, "give_up_selected", event, reason=EVIL),
        "revoke, asked": press(operator, key, "revoke_keys", reason=EVIL),
        "retry, asked": press(operator, event, "retry_selected", reason=EVIL),
        "retry": confirm(operator, event, "retry_selected", reason=EVIL),
        "return, asked": returning,
        "revoke a coupon, refused": press(operator, coupon, "revoke_coupons", reason=EVIL),
        "return": operator.post(
            reverse("admin:coupons_coupon_change", args=[coupon.pk]), form_on(returning, "confirmed"), follow=True
        ),
        "revoke a coupon": confirm(operator, coupon, "revoke_coupons", reason=EVIL),
        "search": operator.post(found, {"search": EVIL}, follow=True),
        "metadata, refused": operator.post(
            campaign_page(campaign), values_of(operator, campaign, metadata=f"{{{EVIL}", quantity=0)
        ),
        "edit, refused": operator.post(campaign_page(campaign), values_of(operator, campaign, name=EVIL, quantity=0)),
        "a key, refused": operator.post(reverse("admin:coupons_apikey_add"), {"name": EVIL, "scopes": [EVIL]}),
        "a key": operator.post(
            reverse("admin:coupons_apikey_add"), {"name": f"{SCRIPT}\u202e", "scopes": ["read"], "reason": EVIL}
        ),
        "log in, refused": Client().post(reverse("admin:login"), {"username": EVIL, "password": EVIL}),
    }  # fmt: skip
    for name, page in pages.items():
        assert_harmless(page, name)
        assert "alert(1)" in page.content.decode(), f"{name}: it is shown"


def test_saving_a_page_keeps_invisible_characters(operator: Client, campaign: Campaign) -> None:
    shown = form_on(operator.get(campaign_page(campaign)))
    assert "⟨U+202E⟩" in shown["name"][0]

    operator.post(campaign_page(campaign), {**shown, "quantity": "11", "reason": "x"})

    saved = Campaign.objects.get(pk=campaign.pk)
    assert (saved.quantity, saved.name) == (11, EVIL)
    operator.post(
        campaign_page(campaign), form_on(operator.get(campaign_page(campaign)), name=f"{shown['name'][0]}!", reason="x")
    )
    assert Campaign.objects.get(pk=campaign.pk).name == f"{EVIL}!"


@pytest.mark.usefixtures("long_timeouts")
def test_api_answers_are_ascii_json_and_never_html(service: Service, campaign: Campaign) -> None:
    answers = {
        "list": Api().get("campaigns"),
        "one": Api().campaign(campaign),
        "a ticket of nobody": Api().get(f"campaigns/{campaign.pk}/tickets/%3Cscript%3E%E2%80%AE%1B"),
        "invalid": Api().post("campaigns", {"name": EVIL, "quantity": EVIL}),
        "invalid user": Api().apply(campaign, EVIL),
        "unknown member": Api().post(f"campaigns/{campaign.pk}/apply", {EVIL: 1, "user_id": "1"}),
        "conflict": Api().act(campaign, "open"),
        "not found": Api().get(f"{EVIL}"),
    }
    for name, answer in answers.items():
        assert re.fullmatch(r"application/(problem\+)?json", answer["Content-Type"]), name
        assert answer["X-Content-Type-Options"] == "nosniff", name
        assert all(32 <= byte < 127 for byte in answer.content), name
        assert all(character.isprintable() for pair in answer.items() for character in "".join(pair)), name
    assert json.loads(answers["one"].content)["name"] == EVIL


def test_a_log_line_stays_a_line(campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    formatter = dict(settings.LOGGING)["formatters"]["line"]  # type: ignore[index]
    logging.config.dictConfig({
        "version": 1, "disable_existing_loggers": False, "formatters": {"line": formatter},
        "handlers": {"here": {"class": "logging.StreamHandler", "formatter": "line", "stream": sys.stderr}},
        "loggers": {"test.lines": {"handlers": ["here"], "propagate": False}},
    })  # fmt: skip
    logger = logging.getLogger("test.lines")

    logger.warning("campaign.created name=%s", f"{EVIL}\r\n2026-11-25 ERROR forged")
    try:
        raise ValueError(f"{EVIL}\n2026-11-25 ERROR forged")
    except ValueError:
        logger.exception("consumer.ended")

    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if re.match(r"\d{4}-", line) and "test.lines" not in line] == []
    assert len([line for line in lines if not line.startswith("  ")]) == 2
    assert all(line.isprintable() for line in lines)
    assert "alert(1)" in lines[0]


def test_what_a_command_prints_commands_no_terminal(campaign: Campaign) -> None:
    for command in (
        ["pause_campaign", campaign.pk],
        ["change_campaign", campaign.pk, "--name", f"new{UNSEEN}"],
        ["change_campaign", campaign.pk, "--name", EVIL * 10],
        ["reconcile_campaigns", campaign.pk],
        ["revoke_api_key", EVIL, "--reason", "x"],
    ):
        ran = run(*command)
        printed = f"{ran.out}{ran.err}"
        assert printed.replace("\n", "").isprintable(), (command[0], printed)
        assert "U+202E" in printed or "too long" in printed or "200 characters" in printed, (command[0], printed)
