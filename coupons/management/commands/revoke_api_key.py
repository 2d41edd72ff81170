from argparse import ArgumentParser
from typing import Any

from coupons.auth.api_keys import revoke_api_key
from coupons.management.command import CouponCommand, operator
from coupons.runtime.text import make_visible


class Command(CouponCommand):
    uses_redis = False
    help = "Revoke an API key for good: every process refuses it within seconds."
    examples = """
  manage.py revoke_api_key 3f9a01bc --reason "the partner's laptop was stolen"
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prefix", help="the eight characters after `coupon_`, or after `key-` in a log line")
        parser.add_argument("--reason", required=True, help="kept with the key")

    def run(self, **options: Any) -> None:
        row = revoke_api_key(prefix=options["prefix"], actor=operator(), reason=options["reason"])
        self.stdout.write(make_visible(f"{row} is revoked."))
