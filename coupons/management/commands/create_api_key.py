from argparse import ArgumentParser
from typing import Any

from coupons.auth.api_keys import create_api_key
from coupons.management.command import CouponCommand, add_reason, campaign_id, moment, operator
from coupons.models import Scope


class Command(CouponCommand):
    uses_redis = False
    help = (
        "Create an API key for a service. Prints the key and nothing else on standard output. The key is shown only "
        "this once, since only its hash is stored."
    )
    examples = """
  manage.py create_api_key --name "shop front" --scope apply --scope read
  manage.py create_api_key --name "partner" --scope apply --campaign 0198c2a4-... --expires-at 2026-12-31T00:00:00+09:00
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", required=True, help="the service that uses the key")
        parser.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=Scope.values,
            help="what the key may do; repeat the option for several scopes",
        )
        parser.add_argument(
            "--campaign",
            action="append",
            type=campaign_id,
            default=[],
            help="limit the key to this campaign; repeat the option for several campaigns; default: all",
        )
        parser.add_argument("--expires-at", type=moment, help="ISO 8601 with offset; default: never")
        add_reason(parser)

    def run(self, **options: Any) -> None:
        row, key = create_api_key(
            name=options["name"],
            scopes=options["scope"],
            campaign_ids=options["campaign"],
            expires_at=options["expires_at"],
            actor=operator(),
            reason=options["reason"],
        )
        self.stdout.write(key)
        self.stderr.write(f"Logs show the key as key-{row.prefix}; `revoke_api_key {row.prefix}` revokes it.")
