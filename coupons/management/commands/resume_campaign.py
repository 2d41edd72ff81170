from coupons.campaigns.lifecycle import resume_campaign
from coupons.management.command import CampaignCommand


class Command(CampaignCommand):
    help = "Resume admission after a pause."
    examples = "  manage.py resume_campaign 0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10"
    act = staticmethod(resume_campaign)
    done = "is open again"
