"""Open, pause, resume and close: which one a page offers in which state, and running it with a message as result."""

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
class Transition:
    """`offered_in` only decides which buttons are shown; lifecycle checks the state under the row's lock."""

    name: str
    done: str
    offered_in: tuple[CampaignState, ...]
    act: _Act

    @property
    def label(self) -> str:
        return self.name.capitalize()


TRANSITIONS = {
    transition.name: transition
    for transition in (
        Transition("open", "opened", (CampaignState.DRAFT,), lifecycle.open_campaign),
        Transition("pause", "paused", (CampaignState.OPEN,), lifecycle.pause_campaign),
        Transition("resume", "resumed", (CampaignState.PAUSED,), lifecycle.resume_campaign),
        Transition("close", "closed", (CampaignState.OPEN, CampaignState.PAUSED), lifecycle.close_campaign),
    )
}


def transitions_for(campaign: Campaign) -> list[Transition]:
    return [transition for transition in TRANSITIONS.values() if campaign.state in transition.offered_in]


def run_transition(request: HttpRequest, transition: Transition, campaigns: Iterable[Campaign], reason: str) -> None:
    """Changes each campaign by itself: a refusal for one does not stop the others."""
    for campaign in campaigns:
        with errors_as_messages(request, about=campaign.name):
            note = _change_state(transition, campaign.pk, actor_of(request), reason)
            if note:
                messages.warning(request, f"{campaign.name} is {transition.done}. {note}")
            else:
                messages.success(request, f"{campaign.name} is {transition.done}.")


def _change_state(transition: Transition, campaign_id: UUID, actor: str, reason: str) -> str:
    """Returns a note for the operator when the change is done but did not reach Redis, else an empty text."""
    try:
        transition.act(campaign_id=campaign_id, actor=actor, reason=reason)
    except PushDidNotArrive as error:
        return str(error)
    return ""
