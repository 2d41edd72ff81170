from coupons.campaigns.lifecycle import open_campaign
from coupons.management.command import CampaignCommand


class Command(CampaignCommand):
    help = "Open a draft: load the campaign into Redis and admit users from its opening time on."
    examples = "  manage.py open_campaign 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10"
    act = staticmethod(open_campaign)
    done = "is open"
