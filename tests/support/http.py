"""The API as a client with the test's key sees it, in this process, and what every problem document has."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.test import Client
from django.test.client import ClientHandler

from coupons.models import Campaign
from tests.support.service import API_KEY

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

JSON = "application/json"
PROBLEM = "application/problem+json"


class Api:
    """Requests below /api/v1, with the API key unless other credentials (or "" for none) are given."""

    make_handler: Callable[[], ClientHandler] = staticmethod(lambda: ClientHandler(enforce_csrf_checks=False))

    def __init__(self, authorization: str = f"Bearer {API_KEY}") -> None:
        headers = {"authorization": authorization} if authorization else {}
        self._client = Client(headers=headers, raise_request_exception=False)
        self.handler = self._client.handler = self.make_handler()

    def get(self, path: str, **headers: str) -> "Answer":
        return self._client.get(f"/api/v1/{path}", headers=headers)

    def post(self, path: str, body: object = "", *, content_type: str = JSON, **headers: str) -> "Answer":
        return self._client.post(f"/api/v1/{path}", body, content_type=content_type, headers=headers)

    def patch(self, path: str, body: object) -> "Answer":
        return self._client.patch(f"/api/v1/{path}", body, content_type=JSON)

    def request(self, method: str, path: str) -> "Answer":
        return self._client.generic(method, f"/api/v1/{path}")

    def apply(self, campaign: Campaign | UUID | str, user_id: object = "42") -> "Answer":
        return self.post(f"campaigns/{_id(campaign)}/apply", {"user_id": user_id})

    def ticket(self, campaign: Campaign | UUID | str, user_id: str = "42") -> "Answer":
        return self.get(f"campaigns/{_id(campaign)}/tickets/{user_id}")

    def campaign(self, campaign: Campaign | UUID | str) -> "Answer":
        return self.get(f"campaigns/{_id(campaign)}")

    def act(self, campaign: Campaign, action: str) -> "Answer":
        return self.post(f"campaigns/{campaign.pk}/{action}")


def json_of(answer: "Answer") -> Any:
    return answer.json()


def assert_problem(answer: "Answer", status: int, code: str) -> dict[str, Any]:
    """The answer is this problem, and has all that RFC 9457 and docs/api.md ask for; returns the document."""
    assert answer["Content-Type"] == PROBLEM, (answer.status_code, answer.content[:300])
    document: dict[str, Any] = json_of(answer)
    assert (answer.status_code, document.get("code")) == (status, code), document
    assert document["status"] == status
    assert document["type"] == f"/api/docs/problems#{code}"
    assert document["title"]
    return document


def _id(campaign: Campaign | UUID | str) -> str:
    return str(campaign.pk if isinstance(campaign, Campaign) else campaign)
