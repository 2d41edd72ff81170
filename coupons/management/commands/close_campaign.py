from coupons.campaigns.lifecycle import close_campaign
from coupons.management.command import CampaignCommand


class Command(CampaignCommand):
    help = "Close a campaign for good. Admitted users still get their coupons."
    examples = "  manage.py close_campaign 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10"
    act = staticmethod(close_campaign)
    done = "is closed"
