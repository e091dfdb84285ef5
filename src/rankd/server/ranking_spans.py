"""What the spans of a ranked call say. Only for sampled calls: the request is parsed once more for it."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError, Message

from rankd.limits import MAX_LABELS
from rankd.ranking.plan import Plan
from rankd.ranking.ranker import Method, Ranked
from rankd.server.rpc import Call
from rankd.telemetry import names
from rankd.telemetry.tracing import AttributeValue, Stage
from rankd.v1 import ranking_pb2 as pb

MAX_TRACED_CHARS: Final = 256
"""Of one value of the caller's in a trace."""

_SURFACES: Final = ("", "search", "browse", "autocomplete", "recommendation")
"""By the number of pb.Surface; as expressions see `request.surface`."""

FETCH: Final = "fetch"
_RETRIEVE: Final = "retrieve"
_MODEL: Final = "model"


def note(call: Call, method: Method, request_type: type[Message], data: bytes, done: Ranked) -> None:
    """The root's attributes and the stages. Refused calls, too, have what is known of them."""
    plan = done.plan
    if plan is None:
        return
    try:
        message = request_type.FromString(data)
    except DecodeError:
        return
    call.attributes.update(_request_attributes(plan, message))
    call.attributes[names.CANDIDATES] = _candidate_count(message)
    if isinstance(message, pb.BatchRankRequest):
        call.attributes[names.LISTS] = len(message.lists)
        call.attributes[names.LISTS_FAILED] = 0
    if done.fault is None and method is not Method.BATCH_RANK:
        call.attributes[names.MISSING] = done.missing_count
        if method is Method.RANK:
            call.attributes[names.RESCORED] = done.rescored_count
            call.attributes[names.RETURNED] = done.returned_count
    call.stages.extend(_stages(plan, done))


def _request_attributes(plan: Plan, message: Message) -> dict[str, AttributeValue]:
    request = message.common if isinstance(message, pb.BatchRankRequest) else message
    assert isinstance(request, pb.RankRequest | pb.ScoreRequest)
    attributes: dict[str, AttributeValue] = {
        names.PROFILE: plan.profile.name,
        names.PROFILE_VERSION: plan.versions.profile,
        names.SCHEMA_VERSION: plan.versions.schema,
    }
    if plan.versions.model:
        attributes[names.MODEL_VERSION] = plan.versions.model
    if 0 < request.surface < len(_SURFACES):
        attributes[names.SURFACE] = _SURFACES[request.surface]
    if request.user.session_id and len(request.user.session_id) <= MAX_TRACED_CHARS:
        attributes[names.SESSION_ID] = request.user.session_id
    if len(request.labels) <= MAX_LABELS:
        for key, value in request.labels.items():
            attributes[names.LABEL_PREFIX + key[:MAX_TRACED_CHARS]] = value[:MAX_TRACED_CHARS]
    return attributes


def _candidate_count(message: Message) -> int:
    if isinstance(message, pb.BatchRankRequest):
        return sum(len(one.candidates.ids) for one in message.lists)
    assert isinstance(message, pb.RankRequest | pb.ScoreRequest)
    return len(message.candidates.ids)


def _stages(plan: Plan, done: Ranked) -> list[Stage]:
    """One child span per stage, with what it worked on and which version of what did the work."""
    made = []
    for stage in done.stages:
        attributes: dict[str, AttributeValue] = {names.CANDIDATES: stage.candidate_count}
        if stage.list_index >= 0:
            attributes[names.LIST_INDEX] = stage.list_index
        if stage.stage == FETCH:
            attributes = {names.ROWS: stage.candidate_count}
        elif stage.stage == _RETRIEVE:
            attributes[names.MISSING] = stage.missing_count
            attributes[names.SCHEMA_VERSION] = plan.versions.schema
        elif stage.stage == _MODEL and plan.versions.model:
            attributes[names.MODEL_VERSION] = plan.versions.model
        else:
            attributes[names.PROFILE_VERSION] = plan.versions.profile
        made.append(Stage(stage.stage, stage.start_ns, stage.end_ns, attributes))
    return made
