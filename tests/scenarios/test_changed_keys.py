"""Row 37: everything is started with another message key or Django secret, and the topic has unread messages."""

import secrets

import pytest
from django.conf import LazySettings

from coupons.admission.scripts import admission_redis
from coupons.models import Campaign, FailEventHistory
from couponsite.env import derived_secret, keys_with_fingerprints
from faults.crowd import Crowd
from tests.support.held_tickets import held_tickets
from tests.support.matrix import MANY, Row
from tests.support.promises import assert_history_holds, issued
from tests.support.service import Service

NEW = {
    "a message key for the first time": {"COUPON_MESSAGE_KEYS": f"2026={secrets.token_hex()}"},
    "another Django secret": {"DJANGO_SECRET_KEY": secrets.token_urlsafe(50)},
}


@pytest.mark.parametrize("what", NEW)
def test_with_redis_whole_what_was_signed_before_becomes_coupons(
    service: Service, settings: LazySettings, what: str
) -> None:
    """The gate holds every ticket, so nobody has to name the former key: 0 failed events."""
    campaign, crowd = promised_and_unread(service)
    row = Row(37, crowd, name=f"redis-whole-{next(iter(NEW[what]))}")

    with row.fault(f"web, consumer and keeper started with {what}"):
        service.everything(**NEW[what])
    row.wait_for_promises(users=30)

    know_all_keys(settings, NEW[what])
    assert_history_holds(crowd, campaigns=[campaign])
    assert not FailEventHistory.objects.exists()
    row.write()


def test_a_first_message_key_survives_losing_redis(service: Service, settings: LazySettings) -> None:
    """The key of before is derived from the Django secret, which is the same."""
    new = NEW["a message key for the first time"]
    campaign, crowd = promised_and_unread(service)
    promised = crowd.promises(campaign.pk)
    row = Row(37, crowd, name="redis-lost-COUPON_MESSAGE_KEYS")

    with row.fault("redis: FLUSHALL; web, consumer and keeper started with a message key for the first time"):
        admission_redis().flushall()
        _, _, keeper = service.everything(**new)
        keeper.says("rebuild.done")
    row.wait_for_promises(users=30)

    assert promised.items() <= held_tickets(campaign).items()
    know_all_keys(settings, new)
    assert_history_holds(crowd, campaigns=[campaign])
    row.write()


def test_a_new_secret_without_redis_needs_the_former_one(service: Service, settings: LazySettings) -> None:
    """Nobody is promised a place that is somebody's, nothing says that all is well, and each part names the key."""
    new = NEW["another Django secret"]
    campaign, crowd = promised_and_unread(service)
    promised = crowd.promises(campaign.pk)
    former = next(iter(settings.MESSAGE_KEYS))
    row = Row(37, crowd, name="redis-lost-DJANGO_SECRET_KEY")

    with row.fault("redis: FLUSHALL; all started with another Django secret, until the former one is named"):
        admission_redis().flushall()
        keeper = service.keeper(**new)
        keeper.says(f"key {former}")
        consumer = service.manage("run_coupon_consumer", **new)
        assert (consumer.wait(), f"key {former}" in consumer.output) == (1, True), consumer.output
        rebuild = service.run("rebuild_admission", **new)  # the keeper has let go of the work
        assert (rebuild.exit_code, f"key {former}" in rebuild.output) == (1, True), rebuild.output
        web = service.web(**new)
        crowd.wait_for_answers(503, "unavailable", times=20)
        ledger = service.run("reconcile_campaigns", **new)
        assert (ledger.exit_code, "DOES NOT CLOSE" in ledger.output) != (0, True), ledger.output
        assert not held_tickets(campaign)
        assert keeper.output.count("keeper.waiting step=rebuild") == 1, "it says so once"
        for process in (keeper, web):
            process.stop()
        service.everything(**new, DJANGO_SECRET_KEY_FALLBACKS=settings.SECRET_KEY)
    row.wait_for_promises(users=30)

    assert promised.items() <= held_tickets(campaign).items()
    know_all_keys(settings, new)
    assert_history_holds(crowd, campaigns=[campaign])
    assert not FailEventHistory.objects.exists()
    row.write()


def promised_and_unread(service: Service) -> tuple[Campaign, Crowd]:
    """Some are issued, 60 and more are promised and unread; nothing runs any more."""
    consumer = service.manage("run_coupon_consumer", "--solo")
    web = service.web()
    consumer.says("consumer.assigned")
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    crowd.wait_for_promises("with a consumer", users=20)
    consumer.stop()
    crowd.wait_for_promises("without one", users=60)
    web.stop()
    assert len(crowd.promises(campaign.pk)) >= issued(campaign) + 60
    return campaign, crowd


@pytest.fixture(autouse=True)
def _named_code_key(service: Service, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about messages. Codes have a key of their own, which stays (test_code_keys.py is about that)."""
    secret = secrets.token_hex()
    monkeypatch.setenv("COUPON_CODE_KEYS", f"codes={secret}")
    settings.CODE_KEYS = keys_with_fingerprints({"codes": secret.encode()}, derived=[])


def know_all_keys(settings: LazySettings, new: dict[str, str]) -> None:
    """For the ledger that this process asks for."""
    text = new.get("COUPON_MESSAGE_KEYS", "")
    named = {text.partition("=")[0]: text.partition("=")[2].encode()} if text else {}
    former = [secret for secret in (new.get("DJANGO_SECRET_KEY"), settings.SECRET_KEY) if secret]
    settings.MESSAGE_KEYS = keys_with_fingerprints(
        named, derived=[derived_secret(secret, "coupons: messages in Kafka") for secret in former]
    )
