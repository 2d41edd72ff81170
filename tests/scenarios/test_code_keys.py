"""A campaign's code key is not known to the consumers: they say so and wait, or do not start; nobody loses anything."""

import secrets

from django.conf import LazySettings

from coupons.models import Coupon, FailEventHistory
from coupons.redemption.codes import derive_code
from couponsite.env import keys_with_fingerprints
from tests.support.promises import apply_all, assert_kept
from tests.support.service import Service
from tests.support.topic import unread
from tests.support.waiting import hold


def test_coupons_wait_for_the_key_of_their_codes(service: Service, settings: LazySettings) -> None:
    secret = secrets.token_hex()
    running = service.consumer("--solo")
    settings.CODE_KEYS = keys_with_fingerprints({"codes": secret.encode()}, derived=[])
    campaign = service.campaign(100)
    promises = apply_all(campaign, range(10))

    running.says(f"with the key {campaign.code_key}, which is not known here")
    starts = service.manage("run_coupon_consumer", "--solo")
    checked = service.run("check", "--deploy")
    assert starts.wait() == 1
    said = [line for line in starts.output.splitlines() if campaign.code_key in line]
    assert (len(said), "COUPON_CODE_KEYS" in said[0], "Traceback" in starts.output) == (1, True, False), starts.output
    assert (checked.exit_code, "coupons.E024" in checked.output) == (1, True), checked.output
    hold(1, lambda: unread() == 10 and not Coupon.objects.exists(), "all is still to be read")
    assert running.stop() == 0

    service.consumer("--solo", COUPON_CODE_KEYS=f"codes={secret}")

    assert_kept(campaign, promises)
    assert dict(Coupon.objects.values_list("user_id", "code")) == {
        user: derive_code(secret.encode(), campaign_id=campaign.pk, sequence=sequence, user_id=user)
        for user, sequence in promises.items()
    }
    assert not FailEventHistory.objects.exists()
