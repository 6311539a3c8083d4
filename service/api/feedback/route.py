"""`POST /v1/feedback`: clicks and judgements of the candidates of scored requests, for the feedback log."""

from fastapi import APIRouter, Request

from service.api.body.json_route import JsonRoute
from service.api.context import service_of
from service.api.feedback.schemas import FeedbackEventIn, FeedbackRequest, FeedbackResponse
from service.api.policy import Policy
from service.api.problems import PROBLEMS
from service.auth.key_file import Scope
from service.errors import FeedbackOffError, OverloadedError, TooLargeError
from service.feedback.entries import Event, FeedbackEntry
from service.settings import Settings

RETRY_SECONDS = 1

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/v1/feedback",
    status_code=202,
    responses=PROBLEMS
    | {403: PROBLEMS[403] | {"description": "The feedback log is switched off, or the API key is not for this"}},
)
@Policy(Scope.SCORE, named=True)
async def feedback(body: FeedbackRequest, request: Request) -> FeedbackResponse:
    """Log what users or judges did with the candidates of a scored request. Events are joined to it offline, by its id.

    The id is not looked up here: events may go to another replica, and may come days after the scores.
    """
    service = service_of(request)
    if service.feedback is None:
        raise FeedbackOffError("there is no feedback log here (feedback_folder is not set)")
    _check_lengths(body, service.settings)
    if not service.feedback.samples(body.request_id):
        return FeedbackResponse(logged=0, sampled=False)
    if not service.feedback.offer(FeedbackEntry(body.request_id, body.query, [_event(each) for each in body.events])):
        raise OverloadedError("the queue of the feedback log is full; nothing was logged", RETRY_SECONDS)
    return FeedbackResponse(logged=len(body.events), sampled=True)


def _event(event: FeedbackEventIn) -> Event:
    return Event(event.type, event.index, event.candidate, event.position, event.grade, event.annotator)


def _check_lengths(body: FeedbackRequest, settings: Settings) -> None:
    """Raise TooLargeError for a text over the limits of `/v1/score`; `index` names a longer candidate."""
    if body.query is not None and len(body.query) > settings.max_query_chars:
        raise TooLargeError(f"query: {len(body.query)} characters, expected at most {settings.max_query_chars}")
    for place, event in enumerate(body.events):
        if event.candidate is not None and len(event.candidate) > settings.max_candidate_chars:
            raise TooLargeError(
                f"events[{place}].candidate: {len(event.candidate)} characters, expected at most "
                f"{settings.max_candidate_chars}"
            )
