from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings

from coupons.erasing.erase_user import erase_user
from coupons.management.command import CouponCommand, operator


class Command(CouponCommand):
    needs_session = True
    help = (
        "Erase a user: a random pseudonym takes the place of the id, for good, in coupons, failed events, the audit "
        "and Redis. The coupons stay, and the ledger still closes. Refused while a campaign of the user is not "
        "closed, a ticket is pending or a failed event waits. A second run finishes what a killed one has "
        "left. Not erased: Kafka's messages until their retention, backups, logs, and what the shop has written itself."
    )
    examples = """
  manage.py erase_user 42 --reason "request 2026-118"
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="the id as the shop has sent it")
        parser.add_argument("--reason", required=True, help="kept in the audit; it must not name the user")

    def run(self, **options: Any) -> None:
        erasure = erase_user(user_id=options["user"], actor=operator(), reason=options["reason"])
        self.stdout.write(f"{erasure.pseudonym}: {erasure.replaced}, {erasure.tickets} tickets in Redis.")
        days = timedelta(milliseconds=settings.TOPIC_RETENTION_MS).days
        self.stderr.write(
            f"Kafka's messages name the user for up to {days} days more; backups and logs as you keep them."
        )
