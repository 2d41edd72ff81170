from coupons.campaigns.lifecycle import pause_campaign
from coupons.management.campaign_command import CampaignCommand


class Command(CampaignCommand):
    help = "Admit nobody until it is resumed. Who is in stays in and gets the coupon."
    examples = "  manage.py pause_campaign 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10"
    act = staticmethod(pause_campaign)
    done = "is paused"
