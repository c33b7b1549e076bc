"""The job that is killed: twenty steps of four experts, with a trace of each effect."""

import sys

from _stage import ROOT

from tests.model_server import Reply, Request, ToolCall

JOB_ID = "job"
QUERY = "Keep the ledger."
SKILL = ROOT / "scripts" / "proofs" / "kill_matrix" / "skill.py"
STEPS = 20
ANSWER = "the ledger is kept; left: left is done; right: right is done"

_LEDGER = f"""
type = "mcpStdioSkill"
command = "{sys.executable}"
args = ["-S", "-E", "{SKILL}"]
"""
TOML = f"""
model = "gpt-5"

[provider]
providerName = "openai"

[experts."lead"]
instruction = "You are lead."
delegates = ["@lead/left", "@lead/right"]
[experts."lead".skills."ledger"]
{_LEDGER}
[experts."@lead/left"]
description = "Keeps the left page."
instruction = "You are left."
delegates = ["@lead/deep"]
[experts."@lead/left".skills."ledger"]
{_LEDGER}
[experts."@lead/right"]
description = "Keeps the right page."
instruction = "You are right."
[experts."@lead/right".skills."ledger"]
{_LEDGER}
[experts."@lead/deep"]
description = "Keeps the small print."
instruction = "You are deep."
[experts."@lead/deep".skills."ledger"]
{_LEDGER}
"""

Step = tuple[str, ...]
PLANS: dict[str, tuple[Step, ...]] = {
    "lead": (
        ("append a",),
        ("append b", "append c", "put d"),
        ("left", "right"),
        ("append e",),
        ("put f",),
        ("todo",),
        ("append g",),
        ("clearTodo",),
        ("append h", "append i"),
        ("finish",),
    ),
    "left": (("append j",), ("deep",), ("put k",), ("finish",)),
    "right": (("append l", "append m"), ("put n",), ("finish",)),
    "deep": (("append o",), ("put p",), ("finish",)),
}
"""What each expert calls in each of its steps."""

SIDE_BY_SIDE = ({"left", "right"}, {"deep", "right"})
"""Who can be waiting for the model at the same time."""


def effects(tool: str) -> frozenset[str]:
    """What a tool is to leave behind."""
    words = (call.split() for plan in PLANS.values() for step in plan for call in step)
    return frozenset(word[1] for word in words if word[0] == tool)


def place_of(request: Request) -> tuple[str, int]:
    """Which expert asks, and for which of its steps."""
    expert = next(name for name in PLANS if f"You are {name}." in request.system)
    return expert, sum(message.role == "assistant" for message in request.messages)


def script(request: Request) -> Reply:
    """The next step, which depends on nothing but its place."""
    expert, step = place_of(request)
    if PLANS[expert][step] == ("finish",):
        call = ToolCall("attemptCompletion", {"result": _answer(expert, request)}, f"{expert}-end")
        return Reply(tool_calls=(call,))
    calls = tuple(
        _call(words, f"{expert}-{step}-{number}")
        for number, words in enumerate(PLANS[expert][step])
    )
    return Reply(tool_calls=calls)


def _call(words: str, call_id: str) -> ToolCall:
    name, _, text = words.partition(" ")
    match name:
        case "todo":
            return ToolCall(name, {"newTodos": ["one more line"]}, call_id)
        case "clearTodo":
            return ToolCall(name, {}, call_id)
        case "append" | "put":
            return ToolCall(name, {"text": text}, call_id)
        case _:
            return ToolCall(name, {"query": f"Keep the page {name}."}, call_id)


def _answer(expert: str, request: Request) -> str:
    if expert != "lead":
        return f"{expert} is done"
    said = {message.tool_call_id: message.text for message in request.messages}
    left, right = said["lead-2-0"], said["lead-2-1"]
    return f"the ledger is kept; left: {left}; right: {right}"
