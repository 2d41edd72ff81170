from coupons.campaigns.lifecycle import pause_campaign
from coupons.management.command import CampaignCommand


class Command(CampaignCommand):
    help = "Stop admission until the campaign is resumed. Admitted users keep their tickets and get their coupons."
    examples = "  manage.py pause_campaign 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10"
    act = staticmethod(pause_campaign)
    done = "is paused"
