"""Trees of experts by lot: what each run says, uses and may use, and how long it takes."""

import random
from dataclasses import dataclass
from functools import lru_cache

from perstack.core.messages import ToolCallPart, Usage
from perstack.definition.budget import Budget, JobBudget
from perstack.definition.model import Definitions, Expert
from perstack.definition.model_facts import Price
from perstack.runtime.ports import Generation

ROOT_KEY = "lead"
DELEGATES = ("x", "y", "z")
KEYS = (ROOT_KEY, *(f"@lead/{name}" for name in DELEGATES))
MOST_DEPTH = 2
MANY = 50
LIMITED = 0.4
"""How many of all limits there are."""

CUT = 0.08
"""How many replies are cut at the output limit."""

CALLED = 0.7
"""How many runs end with a call rather than in plain words."""


def _length(seed: int, path: str) -> int:
    return lots(seed, path, "length").choice((1, 2, 2, 3, 4))


def lots(*words: object) -> random.Random:
    """Lots that depend on nothing but these words."""
    return random.Random("/".join(map(str, words)))  # noqa: S311 - lots, not secrets


@dataclass(frozen=True, slots=True)
class PlannedReply:
    """What a run says at one point, and what that costs."""

    text: str
    calls: tuple[ToolCallPart, ...]
    usage: Usage
    seconds: float
    failures: int
    is_cut: bool

    @property
    def generation(self) -> Generation:
        reason = "length" if self.is_cut else "toolCalls" if self.calls else "stop"
        return Generation(
            text=self.text, tool_calls=self.calls, usage=self.usage, finish_reason=reason
        )


@dataclass(frozen=True, slots=True)
class Tree:
    """A job by lot. A run is known by its query, its path in the tree; so are its replies."""

    seed: int

    @property
    def price(self) -> Price:
        lot = lots(self.seed, "price")
        return Price(input=lot.uniform(0.1, 20), output=lot.uniform(0.1, 80))

    def reply(self, path: str, position: int) -> PlannedReply:
        """What the run says after `position` replies."""
        return _reply(self.seed, path, position)

    def length(self, path: str) -> int:
        """How many replies the run takes."""
        return _length(self.seed, path)

    def budget(self, name: str) -> Budget | None:
        """Some of steps, tokens, dollars and seconds, or none of them."""
        lot = lots(self.seed, name, "budget")
        most = {
            "max_steps": lot.randint(1, 12),
            "max_tokens": int(2 ** lot.uniform(8, 17)),
            "max_cost_usd": round(2 ** lot.uniform(-8, 2), 4),
            "max_seconds": round(lot.uniform(1, 20), 1),
        }
        chosen = {limit: value for limit, value in most.items() if lot.random() < LIMITED}
        return Budget.model_validate(chosen) if chosen else None

    @property
    def definitions(self) -> Definitions:
        """The experts: each may call all delegates; in some trees they have budgets."""
        lot = lots(self.seed, "definitions")
        have_budgets = lot.random() < LIMITED
        experts = {
            key: Expert(
                key=key,
                instruction="Work.",
                delegates=KEYS[1:],
                budget=self.budget(key) if key != ROOT_KEY and have_budgets else None,
            )
            for key in KEYS
        }
        job = self.budget("file") if lot.random() < LIMITED else None
        budget = JobBudget(**job.model_dump()) if job else JobBudget()
        return Definitions(
            experts=experts, budget=budget, max_steps=lot.choice((6, 200, 200)), max_retries=MANY
        )


@lru_cache(maxsize=512)
def _reply(seed: int, path: str, position: int) -> PlannedReply:
    lot = lots(seed, path, position)
    is_last = position >= _length(seed, path) - 1
    is_cut = not is_last and lot.random() < CUT
    calls: tuple[ToolCallPart, ...] = ()
    if not is_last and not is_cut:
        calls = _calls(lot, path, position)
    elif is_last and lot.random() < CALLED:
        calls = (_call("attemptCompletion", path, position, 0, result=f"done {path}"),)
    read, said = int(2 ** lot.uniform(4, 13)), int(2 ** lot.uniform(2, 12))
    return PlannedReply(
        text=f"done {path}" if is_last and not calls else f"{path}:{position}",
        calls=calls,
        usage=Usage(input_tokens=read, output_tokens=said, total_tokens=read + said),
        seconds=lot.choice((0.0, 0.0, lot.random(), 3 * lot.random())),
        failures=lot.choice((0,) * 12 + (1, 2)),
        is_cut=is_cut,
    )


def _calls(lot: random.Random, path: str, position: int) -> tuple[ToolCallPart, ...]:
    delegates = lot.choice((0, 0, 1, 2, 3)) if path.count(".") < MOST_DEPTH else 0
    names = [*lot.choices(DELEGATES, k=delegates), *(["echo"] * lot.choice((0, 0, 1, 2)))]
    lot.shuffle(names)
    return tuple(
        _call(name, path, position, number, query=f"{path}.{position}{'abcdef'[number]}")
        for number, name in enumerate(names or ["echo"])
    )


def _call(name: str, path: str, position: int, number: int, **args: str) -> ToolCallPart:
    return ToolCallPart(tool_call_id=f"{path}/{position}/{number}", tool_name=name, args=dict(args))
