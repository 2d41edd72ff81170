from argparse import ArgumentParser
from typing import Any

from coupons import audit
from coupons.errors import OperatorError, UnknownMessageKey
from coupons.management.command import CouponCommand, add_reason, campaign_id, operator
from coupons.models import LOADED, Campaign
from coupons.recovery.campaign_failures import CampaignFailures
from coupons.recovery.rebuild import promise_window_sec, rebuild_campaigns
from coupons.recovery.stale import stale_campaigns


class Command(CouponCommand):
    help = (
        "Rebuild campaigns in Redis from what Redis still has, the topic and PostgreSQL. The keeper does the same by "
        "itself for a stale state. During the rebuild these campaigns answer 503; no promise is lost. Without ids "
        "it rebuilds the stale campaigns; use --all after PostgreSQL was restored from an older copy. Exits 1 when "
        "another rebuild is running, or when messages that may be promises are signed with an unknown key; 2 when a "
        "server does not answer."
    )
    examples = """
  manage.py rebuild_admission
  manage.py rebuild_admission 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10     (even if its state is current)
  manage.py rebuild_admission --all                      (PostgreSQL was restored from an older copy)
  manage.py rebuild_admission --all --whole-topic        (rows of coupons were deleted, as reconcile_campaigns says)
  manage.py rebuild_admission --forged-key spam-0a1b2c3d --reason "no key of ours"
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", nargs="*", type=campaign_id, help="campaign ids; default: the stale ones")
        parser.add_argument("--all", action="store_true", help="every campaign that was ever opened")
        parser.add_argument(
            "--whole-topic",
            action="store_true",
            help="also read messages that the consumers have already read; needed after rows were deleted. A restored "
            "backup does not need it: it records how far the topic was read when it was made",
        )
        parser.add_argument(
            "--forged-key",
            action="append",
            default=[],
            metavar="ID",
            help="ignore messages signed with this key as forged; a pattern such as '*' means every unknown key. May "
            "be repeated. A promise that is only in such messages is lost",
        )
        add_reason(parser)

    def run(self, **options: Any) -> None:
        failures = CampaignFailures()
        if options["all"]:
            ids = list(Campaign.objects.filter(LOADED).values_list("pk", flat=True))
        else:
            ids = options["campaign"] or stale_campaigns(failures=failures)
        if not ids:
            failures.report()
            self.stdout.write("Every campaign's state in Redis is current; nothing to rebuild.")
            return
        campaigns = Campaign.objects.filter(LOADED, pk__in=ids)
        loaded = {campaign.pk for campaign in campaigns}
        unknown = [str(missing) for missing in ids if missing not in loaded]
        if Campaign.objects.filter(pk__in=unknown, unloaded_at__isnull=False).exists():
            raise OperatorError("An unloaded campaign has left Redis for good: PostgreSQL alone has its tickets.")
        if unknown:
            raise OperatorError(f"No opened campaign has the id {', '.join(unknown)}.")
        forged = options["forged_key"]
        what = f"Requested a rebuild, with forged keys: {' '.join(forged)}" if forged else "Requested a rebuild"
        audit.record_all(actor=operator(), rows=campaigns, what=what, reason=options["reason"])
        self.stderr.write(
            f"Rebuilding {len(ids)} campaigns after a wait of {promise_window_sec():.1f} s for answers under way."
        )
        reports = rebuild_campaigns(
            campaign_ids=ids, whole_topic=options["whole_topic"], forged_keys=forged, failures=failures
        )
        if reports is None:
            raise OperatorError("Another rebuild is running (most likely the keeper's); nothing was done.")
        for report in reports:
            self.stdout.write(
                f"{report.campaign_id}: {report.tickets} tickets, {report.pending} of them pending, "
                f"{report.seconds:.1f} s"
            )
        try:
            failures.report()
        except UnknownMessageKey as error:
            raise OperatorError(str(error)) from error
