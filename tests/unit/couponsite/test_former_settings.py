"""Variables that are not read any more: the start names each that is still set, and what it is now."""

import re

import pytest
from django.conf import LazySettings

from coupons.checks.configuration import check_former_settings
from couponsite.former_settings import FORMER, former_among
from tests.support.process import ROOT

SETTINGS = (ROOT / "couponsite" / "settings.py").read_text()


def test_a_former_setting_that_is_set_is_a_warning(settings: LazySettings) -> None:
    settings.FORMER_SETTINGS = former_among(["COUPON_WEB_QUEUE", "COUPON_WEB_THREADS", "HOME"])

    (found,) = check_former_settings(None)

    assert found.id == "coupons.W013"
    assert found.msg == "COUPON_WEB_QUEUE is not read any more: it is derived from COUPON_WEB_THREADS."
    assert found.hint


def test_an_environment_of_today_has_nothing_to_say(settings: LazySettings) -> None:
    settings.FORMER_SETTINGS = former_among(["COUPON_WEB_THREADS"])

    assert check_former_settings(None) == []


@pytest.mark.parametrize("name", FORMER)
def test_a_former_setting_is_read_nowhere_and_names_what_is(name: str) -> None:
    assert f'"{name}"' not in SETTINGS
    assert all(f'"{other}"' in SETTINGS for other in re.findall(r"COUPON_\w+", FORMER[name]))
