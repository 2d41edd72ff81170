"""The keys that codes are derived with: a campaign keeps its own, and without it none of its coupons is written."""

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection, transaction

from coupons.checks import configuration
from coupons.errors import UnknownCodeKey
from coupons.issuing.issue import issue_coupons
from coupons.models import Campaign, Coupon, FailCode
from coupons.redemption.codes import FORMER_LENGTH, derive_code
from couponsite.env import keys_with_fingerprints
from tests.support.checkout import coupon_of
from tests.support.http import Api, json_of
from tests.support.service import Service
from tests.support.tickets import admit, issue, ticket

OLD, NEW = b"the older of two secrets for codes", b"the newer of two secrets for codes"


def know(settings: LazySettings, **named: bytes) -> None:
    """The first is for campaigns that open from now on."""
    settings.CODE_KEYS = keys_with_fingerprints(named, derived=[])


def test_a_coupon_that_is_written_again_has_its_code(service: Service) -> None:
    coupon = coupon_of(service)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("DELETE FROM coupons_coupon")

    issue(ticket(coupon.campaign, coupon.user_id, coupon.sequence))

    again = Coupon.objects.get()
    assert again.pk != coupon.pk
    assert (again.user_id, again.sequence, again.code) == (coupon.user_id, coupon.sequence, coupon.code)


def test_a_campaign_keeps_the_key_it_opened_with(service: Service, settings: LazySettings) -> None:
    know(settings, old=OLD)
    campaign = service.campaign(10)
    know(settings, new=NEW, old=OLD)
    later = service.campaign(10)

    assert code_of(campaign, "42") == derive_code(OLD, campaign_id=campaign.pk, sequence=1, user_id="42")
    assert code_of(later, "42") == derive_code(NEW, campaign_id=later.pk, sequence=1, user_id="42")


def code_of(campaign: Campaign, user_id: str) -> str:
    (sequence,) = admit(campaign, user_id)
    issue(ticket(campaign, user_id, sequence))
    return Coupon.objects.get(campaign=campaign, user_id=user_id).code


def test_without_its_key_nothing_is_issued_nor_refused(service: Service, settings: LazySettings) -> None:
    know(settings, old=OLD)
    campaign = service.campaign(10)
    (sequence,) = admit(campaign, "42")
    know(settings, new=NEW)

    with pytest.raises(UnknownCodeKey, match=f"with the key {campaign.code_key}, .* COUPON_CODE_KEYS"):
        issue(ticket(campaign, "42", sequence))
    [error] = configuration.check_code_keys(None)
    assert (error.id, campaign.code_key in error.msg) == ("coupons.E024", True)
    know(settings, old=NEW)
    assert configuration.check_code_keys(None), "another secret under the same name is another key"

    know(settings, new=NEW, old=OLD)
    issue(ticket(campaign, "42", sequence))
    assert not configuration.check_code_keys(None)
    assert Coupon.objects.count() == 1


def test_a_campaign_of_an_older_version_has_former_codes(service: Service, long_timeouts: None) -> None:
    """It opened the campaign, and its column is empty; both kinds of codes are redeemed."""
    campaign = service.campaign(10)
    Campaign.objects.filter(pk=campaign.pk).update(code_key="")

    code = code_of(campaign, "42")

    assert len(code) == FORMER_LENGTH
    typed = f" {code[:13].lower()}-{code[13:]}"
    answer = Api().post("redemptions", {"code": typed, "order_ref": "1001", "user_id": "42"})
    assert (answer.status_code, json_of(answer)["status"]) == (201, "redeemed")


def test_a_failed_event_never_has_the_code(service: Service) -> None:
    """Somebody has given the code to another coupon, so PostgreSQL refuses this one, and would show the code."""
    taken = coupon_of(service)
    campaign = service.campaign(10)
    (sequence,) = admit(campaign, "43")
    code = derive_code_of(campaign, sequence, "43")
    Coupon.objects.filter(pk=taken.pk).update(code=code)
    with pytest.raises(IntegrityError, match=code), transaction.atomic():
        Coupon.objects.create(campaign=campaign, user_id="44", sequence=9, code=code)

    with transaction.atomic():
        [refusal] = issue_coupons([ticket(campaign, "43", sequence)]).refused

    assert refusal.code == FailCode.DATABASE_REFUSED
    assert "coupon_code_unique" in refusal.reason
    assert code not in refusal.reason


def derive_code_of(campaign: Campaign, sequence: int, user_id: str) -> str:
    from django.conf import settings

    secret = settings.CODE_KEYS[campaign.code_key]
    return derive_code(secret, campaign_id=campaign.pk, sequence=sequence, user_id=user_id)
