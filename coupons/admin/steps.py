"""Open, pause, resume, close: what a page offers in which state, and doing it, the outcome as a message."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest

from coupons.admin.pages import actor_of, errors_as_messages
from coupons.campaigns import lifecycle
from coupons.errors import PushDidNotArrive
from coupons.models import Campaign, CampaignState


class _Act(Protocol):
    def __call__(self, *, campaign_id: UUID, actor: str, reason: str) -> Campaign: ...


@dataclass(frozen=True, slots=True)
class Step:
    """`offered_in` decides which buttons are shown; lifecycle, under the row's lock, what is done."""

    name: str
    done: str
    offered_in: tuple[CampaignState, ...]
    act: _Act

    @property
    def label(self) -> str:
        return self.name.capitalize()


STEPS = {
    step.name: step
    for step in (
        Step("open", "opened", (CampaignState.DRAFT,), lifecycle.open_campaign),
        Step("pause", "paused", (CampaignState.OPEN,), lifecycle.pause_campaign),
        Step("resume", "resumed", (CampaignState.PAUSED,), lifecycle.resume_campaign),
        Step("close", "closed", (CampaignState.OPEN, CampaignState.PAUSED), lifecycle.close_campaign),
    )
}


def steps_for(campaign: Campaign) -> list[Step]:
    return [step for step in STEPS.values() if campaign.state in step.offered_in]


def take_step(request: HttpRequest, step: Step, campaigns: Iterable[Campaign], reason: str) -> None:
    """Each campaign by itself: one that cannot be moved does not keep the others from it."""
    for campaign in campaigns:
        with errors_as_messages(request, about=campaign.name):
            note = _take(step, campaign.pk, actor_of(request), reason)
            if note:
                messages.warning(request, f"{campaign.name} is {step.done}. {note}")
            else:
                messages.success(request, f"{campaign.name} is {step.done}.")


def _take(step: Step, campaign_id: UUID, actor: str, reason: str) -> str:
    """Empty, or what the operator should know although it is done."""
    try:
        step.act(campaign_id=campaign_id, actor=actor, reason=reason)
    except PushDidNotArrive as error:
        return str(error)
    return ""
