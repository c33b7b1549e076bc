"""What an expert can do to the world, so that a client knows when to ask its user first.

Derived from what the definitions allow, not from what the expert is told to do: an instruction
stops nobody. A server that is only known by its command or address may do anything.
"""

from dataclasses import dataclass
from typing import Literal

from perstack.definition.model import Definitions, Expert, InteractiveSkill, McpStdioSkill, Skill
from perstack.definition.names import BASE_SKILL
from perstack.skills.base.defaults import SHOWN_BY_DEFAULT
from perstack.skills.launch import is_built_in

Effect = Literal["reads", "adds", "destroys"]

EFFECT_OF_BASE_TOOL: dict[str, Effect] = {
    "attemptCompletion": "reads",
    "todo": "reads",
    "clearTodo": "reads",
    "exec": "destroys",
    "readTextFile": "reads",
    "getFileInfo": "reads",
    "readImageFile": "reads",
    "readPdfFile": "reads",
    "writeTextFile": "destroys",
    "appendTextFile": "adds",
    "editTextFile": "destroys",
    "moveFile": "destroys",
    "deleteFile": "destroys",
    "listDirectory": "reads",
    "createDirectory": "adds",
    "deleteDirectory": "destroys",
    "healthCheck": "reads",
}
"""Here as data, because listing the tools must not wait for the skills themselves to load."""

READING_PROVIDER_TOOLS = frozenset(
    {
        "webSearch",
        "webSearchPreview",
        "webFetch",
        "googleSearch",
        "enterpriseWebSearch",
        "googleMaps",
        "urlContext",
        "fileSearch",
    }
)


@dataclass(frozen=True, slots=True)
class Reach:
    """The most that an expert can do, with everything it may delegate to."""

    is_read_only: bool = True
    is_destructive: bool = False
    is_open_world: bool = False

    def __or__(self, other: "Reach") -> "Reach":
        return Reach(
            is_read_only=self.is_read_only and other.is_read_only,
            is_destructive=self.is_destructive or other.is_destructive,
            is_open_world=self.is_open_world or other.is_open_world,
        )


NOTHING = Reach()
ANYTHING = Reach(is_read_only=False, is_destructive=True, is_open_world=True)


def reach(expert: Expert, definitions: Definitions) -> Reach:
    """What an expert can do by itself and through its delegates, however deep."""
    found = NOTHING
    seen = {expert.key}
    waiting = [expert]
    while waiting:
        current = waiting.pop()
        found |= _own(current, definitions)
        for key in current.delegates:
            delegate = definitions.experts.get(key)
            if delegate is None:
                return ANYTHING
            if key not in seen:
                seen.add(key)
                waiting.append(delegate)
    return found


def claimed(expert: Expert, found: Reach) -> Reach:
    """What an expert can do as its author says it, where the author says it.

    An author knows what a server behind a command can do; nothing is checked.
    """
    said = expert.tool
    may_destroy = found.is_destructive and said.read_only_hint is not True
    return Reach(
        is_read_only=_said(said.read_only_hint, found.is_read_only),
        is_destructive=_said(said.destructive_hint, may_destroy),
        is_open_world=_said(said.open_world_hint, found.is_open_world),
    )


def _said(claim: bool | None, otherwise: bool) -> bool:  # noqa: FBT001 - two readings of one fact
    return otherwise if claim is None else claim


def _own(expert: Expert, definitions: Definitions) -> Reach:
    found = NOTHING
    for name, skill in expert.skills.items():
        found |= _of_skill(name, skill, definitions)
    if any(verification.command for verification in expert.verifications):
        found |= _of_base_tool("exec")
    if expert.provider_skills:
        found |= ANYTHING
    for tool in expert.provider_tools:
        found |= Reach(is_open_world=True) if tool in READING_PROVIDER_TOOLS else ANYTHING
    return found


def _of_skill(name: str, skill: Skill, definitions: Definitions) -> Reach:
    if isinstance(skill, InteractiveSkill):
        return NOTHING
    is_ours = isinstance(skill, McpStdioSkill) and name == BASE_SKILL and is_built_in(skill)
    if not is_ours or definitions.perstack_base_skill_command is not None:
        return ANYTHING
    found = NOTHING
    for tool in skill.pick or SHOWN_BY_DEFAULT:
        if tool not in skill.omit and tool in EFFECT_OF_BASE_TOOL:
            found |= _of_base_tool(tool)
    return found


def _of_base_tool(tool: str) -> Reach:
    effect = EFFECT_OF_BASE_TOOL[tool]
    return Reach(
        is_read_only=effect == "reads",
        is_destructive=effect == "destroys",
        is_open_world=tool == "exec",
    )
