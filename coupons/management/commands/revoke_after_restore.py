import sys
from argparse import ArgumentParser
from typing import Any

from coupons.auth.after_restore import Access, find_access, take_back
from coupons.auth.revocations import rights_of
from coupons.errors import OperatorError
from coupons.management.command import EXIT_REFUSED, CouponCommand, add_reason, operator
from coupons.runtime.text import make_visible


class Command(CouponCommand):
    help = (
        "After PostgreSQL was restored from an older copy, and before web starts: list the API keys and accounts that "
        "get in by it, and mark those that were revoked or switched off since the copy was made, as Redis remembers. "
        "With --yes, revoke and switch off what is marked, and end all sessions of the admin. Without --yes nothing is "
        "changed, and the exit code is 1 when something is marked."
    )
    examples = """
  manage.py revoke_after_restore
  manage.py revoke_after_restore --yes --reason "restored last night's dump"
  manage.py revoke_after_restore --also 3f9a01bc --also kim --yes --reason "the log has api_key.revoked since the dump"
  manage.py revoke_after_restore --all-but 9c1e55aa anna --yes --reason "Redis is lost as well"
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--also",
            action="append",
            default=[],
            metavar="NAME",
            help="mark this API key (by its prefix) or account too; repeat the option for several",
        )
        parser.add_argument(
            "--all-but",
            nargs="*",
            metavar="NAME",
            help="mark every API key and account but these, without asking Redis",
        )
        parser.add_argument("--yes", action="store_true", help="take the rights of what is marked away")
        add_reason(parser)

    def run(self, **options: Any) -> None:
        if options["yes"] and not options["reason"].strip():
            raise OperatorError("--reason: say why, it is kept with each key and account.")
        access = find_access(also=options["also"], all_but=options["all_but"])
        self._show(access)
        if options["yes"]:
            take_back(access, actor=operator(), reason=options["reason"])
            self.stdout.write(f"{len(access.regained)} of them are revoked or switched off; all sessions are ended.")
        elif access.regained:
            self.stdout.write("Nothing was changed: --yes and --reason take away what is marked with !")
            sys.exit(EXIT_REFUSED)
        else:
            self.stdout.write("Nothing is marked. Your logs since the copy tell more: api_key.revoked, rights.changed.")

    def _show(self, access: Access) -> None:
        self.stdout.write("API keys that get in:")
        for key in access.keys:
            used = f"last used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
            self._line(key.prefix, f"{key.name} ({', '.join(key.scopes)}), {used}", access)
        self.stdout.write("Accounts of the admin that get in:")
        for account in access.accounts:
            self._line(account.get_username(), ", ".join(rights_of(account)), access)

    def _line(self, name: str, text: str, access: Access) -> None:
        why = access.regained.get(name)
        mark, end = ("!", f": {why}") if why else (" ", "")
        self.stdout.write(make_visible(f"{mark} {name}  {text}{end}"))
