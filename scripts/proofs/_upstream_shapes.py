"""What events, checkpoints and files have to look like, written down from the specification.

Names are interfaces. What a reader may miss is not listed; what it has to find is.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

Json = dict[str, Any]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


RUN_EVENTS: Mapping[str, frozenset[str]] = {
    name: _names(keys)
    for name, keys in {
        "startRun": "initialCheckpoint inputMessages",
        "resumeFromStop": "checkpoint",
        "startGeneration": "messages",
        "retry": "reason newMessages usage",
        "callTools": "newMessage toolCalls usage",
        "finishMcpTools": "newToolResults",
        "callDelegate": "newMessage toolCalls usage",
        "skipDelegates": "",
        "callInteractiveTool": "newMessage toolCall usage",
        "proceedToInteractiveTools": "pendingToolCalls partialToolResults",
        "resolveToolResults": "toolResults",
        "attemptCompletion": "toolResult",
        "finishToolCall": "newMessages",
        "resumeToolCalls": "pendingToolCalls partialToolResults",
        "finishAllToolCalls": "newMessages",
        "continueToNextStep": "checkpoint step nextCheckpoint",
        "completeRun": "checkpoint step text usage",
        "stopRunByInteractiveTool": "checkpoint step",
        "stopRunByDelegate": "checkpoint step",
        "stopRunByExceededMaxSteps": "checkpoint step",
        "stopRunByError": "checkpoint step error",
    }.items()
}
STREAMING_EVENTS: Mapping[str, frozenset[str]] = {
    "startStreamingReasoning": frozenset(),
    "streamReasoning": frozenset({"delta"}),
    "completeStreamingReasoning": frozenset({"text"}),
    "startStreamingRunResult": frozenset(),
    "streamRunResult": frozenset({"delta"}),
    "completeStreamingRunResult": frozenset({"text"}),
}
RUNTIME_EVENTS: Mapping[str, frozenset[str]] = {
    name: _names(keys)
    for name, keys in {
        "initializeRuntime": "runtimeVersion expertName experts model maxRetries timeout",
        "skillStarting": "skillName command args",
        "skillConnected": "skillName",
        "skillStderr": "skillName message",
        "skillDisconnected": "skillName",
    }.items()
}
BASE = _names("id timestamp jobId runId type")
RUN_BASE = BASE | {"expertKey", "stepNumber"}

CHECKPOINT = _names("id jobId runId status stepNumber messages expert usage")
STEP = _names("stepNumber newMessages usage startedAt")
USAGE = _names("inputTokens outputTokens reasoningTokens totalTokens cachedInputTokens")
EXPERT = _names("key name version")
CALL = _names("id skillName toolName args")
RESULT = _names("id skillName toolName result")
ERROR = _names("name message isRetryable")
MESSAGE = _names("id type contents")
DELEGATED_BY = _names("expert toolCallId toolName checkpointId runId")
DELEGATE_TO = _names("expert toolCallId toolName query")
JOB = _names("id status coordinatorExpertKey totalSteps usage startedAt")
RUN_SETTING = _names(
    "model providerConfig jobId runId expertKey input experts startedAt updatedAt env"
)
CHECKPOINT_STATUSES = _names(
    "init proceeding completed stoppedByInteractiveTool stoppedByDelegate "
    "stoppedByExceededMaxSteps stoppedByError"
)
JOB_STATUSES = _names("running completed stoppedByMaxSteps stoppedByInteractiveTool stoppedByError")
MESSAGES = _names("instructionMessage userMessage expertMessage toolMessage")

PARTS: Mapping[str, frozenset[str]] = {
    "checkpoint": CHECKPOINT,
    "initialCheckpoint": CHECKPOINT,
    "nextCheckpoint": CHECKPOINT,
    "step": STEP,
    "usage": USAGE,
    "expert": EXPERT,
    "error": ERROR,
    "delegatedBy": DELEGATED_BY,
    "newMessage": MESSAGE,
    "toolCall": CALL,
    "toolResult": RESULT,
}
LISTS: Mapping[str, frozenset[str]] = {
    "messages": MESSAGE,
    "newMessages": MESSAGE,
    "inputMessages": MESSAGE,
    "toolCalls": CALL,
    "pendingToolCalls": CALL,
    "toolResults": RESULT,
    "partialToolResults": RESULT,
    "newToolResults": RESULT,
    "delegateTo": DELEGATE_TO,
}

FOLLOWERS: Mapping[str, frozenset[str]] = {
    name: _names(followers)
    for name, followers in {
        "startRun": "startGeneration",
        "resumeFromStop": "proceedToInteractiveTools resumeToolCalls resolveToolResults "
        "finishAllToolCalls",
        "startGeneration": "callTools completeRun retry",
        "retry": "startGeneration continueToNextStep stopRunByExceededMaxSteps",
        "callTools": "attemptCompletion completeRun finishMcpTools resolveToolResults",
        "attemptCompletion": "completeRun resolveToolResults finishMcpTools",
        "finishMcpTools": "callDelegate skipDelegates",
        "callDelegate": "stopRunByDelegate",
        "skipDelegates": "callInteractiveTool resolveToolResults",
        "callInteractiveTool": "callInteractiveTool stopRunByInteractiveTool",
        "proceedToInteractiveTools": "callInteractiveTool stopRunByInteractiveTool",
        "resumeToolCalls": "finishMcpTools resolveToolResults",
        "resolveToolResults": "finishToolCall finishAllToolCalls",
        "finishToolCall": "continueToNextStep stopRunByExceededMaxSteps",
        "finishAllToolCalls": "continueToNextStep stopRunByExceededMaxSteps",
        "continueToNextStep": "startGeneration",
        "stopRunByDelegate": "resumeFromStop",
        "stopRunByInteractiveTool": "",
        "stopRunByExceededMaxSteps": "",
        "completeRun": "",
        "stopRunByError": "",
    }.items()
}
"""What may come next in a run; an error may come anywhere."""


def additions(documents: Path) -> frozenset[str]:
    """The types that the document of events names as additions."""
    text = (documents / "events.md").read_text(encoding="utf-8")
    stated = re.search(r"((?:`\w+`[,\s]+(?:and\s+)?)+)are additions", text)
    types = frozenset(re.findall(r"`(\w+)`", stated[1])) if stated else frozenset[str]()
    return types | {"contextWindowNearlyFull", "skillAsked", "skillAnswered"}


def event_problems(events: Iterable[Json], added: frozenset[str]) -> Iterator[str]:
    """What a reader of full events would miss, or not know."""
    known = {**RUN_EVENTS, **STREAMING_EVENTS, **RUNTIME_EVENTS}
    for event in events:
        kind = event.get("type", "?")
        if kind not in known and kind not in added:
            yield f"{kind} is no type of event"
            continue
        base = BASE if kind in RUNTIME_EVENTS else RUN_BASE
        wanted = known.get(kind, frozenset()) | (base if kind in known else BASE)
        missing = sorted(wanted - event.keys())
        if missing:
            yield f"{kind} lacks {', '.join(missing)}"
        yield from (f"{kind}: {problem}" for problem in part_problems(event))


def part_problems(document: Json) -> Iterator[str]:
    """What is missing inside of events and files."""
    for name, value in document.items():
        wanted = PARTS.get(name) or LISTS.get(name, frozenset())
        for each in _documents(value):
            missing = sorted(wanted - each.keys())
            if missing:
                yield f"{name} lacks {', '.join(missing)}"
            if wanted is MESSAGE and each.get("type") not in MESSAGES:
                yield f"{each.get('type')} is no type of a message"
            if name != "args":
                yield from part_problems(each)
    if document.keys() >= CHECKPOINT and document["status"] not in CHECKPOINT_STATUSES:
        yield f"{document['status']} is no status of a checkpoint"


def _documents(value: object) -> list[Json]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return [cast("Json", each) for each in values if isinstance(each, dict)]


def order_problems(events: Iterable[Json]) -> Iterator[str]:
    """Where the events of a run do not come as the states of a run have it."""
    last: dict[str, str] = {}
    for event in events:
        kind, run_id = event["type"], event["runId"]
        if kind not in RUN_EVENTS:
            continue
        before = last.get(run_id)
        begins = ("startRun", "resumeFromStop")
        allowed = FOLLOWERS[before] if before else frozenset(begins)
        if kind not in allowed and kind != "stopRunByError":
            yield f"{kind} comes after {before or 'nothing'}"
        last[run_id] = kind
