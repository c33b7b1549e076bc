"""What must hold of a job with budgets, computed from its stored events alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from _budget_lives import Activation, Life
from _budget_trees import Tree

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.history import JobHistory
from perstack.core.messages import ToolResult, Usage
from perstack.definition.budget import Budget
from perstack.runtime.estimates import (
    estimate_output_tokens,
    estimate_tokens,
    estimate_tool_tokens,
    unseen_messages,
)
from perstack.runtime.tools import build_toolbox
from perstack.store.projection import group_by_run
from tests.fakes import STANDARD_TOOLS

LIMITS: dict[ev.Limit, str] = {
    "steps": "max_steps",
    "tokens": "max_tokens",
    "costUsd": "max_cost_usd",
    "seconds": "max_seconds",
}
ROUNDING = 1e-6
LATE_MS = 3000
"""Each reading of the clock takes a millisecond, so that a busy job may seem to be late."""


@dataclass(slots=True)
class Sums:
    """Steps, tokens and dollars."""

    steps: int = 0
    tokens: int = 0
    dollars: float = 0.0

    def add(self, usage: Usage) -> None:
        """Count a generation."""
        self.tokens += usage.total_tokens
        self.dollars += usage.cost_usd or 0.0


@dataclass(slots=True)
class Generations:
    """Those that are under way: what each will use, by run."""

    estimates: dict[str, Usage] = field(default_factory=dict[str, Usage])
    unmarked: set[str] = field(default_factory=set[str])
    impossible: set[str] = field(default_factory=set[str])
    replies: dict[str, list[int]] = field(default_factory=dict[str, list[int]])


class AccountCheck:
    """Adds up what a job uses, and compares it with the limits of its accounts.

    An account is that of a run with limits: of the job, or of a delegate with a budget of its own.
    """

    def __init__(self, tree: Tree, life: Life) -> None:
        self.faults: list[str] = []
        self._tree = tree
        self._definitions = life.definitions
        self._activations = life.activations
        self._history = JobHistory()
        self._sums: dict[str, Sums] = {}
        self._limits: dict[str, Budget] = {}
        self._bases: dict[str, Sums] = {}
        self._parents: dict[str, str] = {}
        self._root: str | None = None
        self._over: dict[tuple[str, str], float] = {}

    @property
    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """The newest of each run, as the events checked so far lead to them."""
        return self._history.newest_by_run

    def run(self) -> list[str]:
        """What is wrong, in the order of the events."""
        for number, activation in enumerate(self._activations):
            self._check_activation(activation)
            if activation.live is not None and activation.live != self.checkpoints:
                self.faults.append(f"process {number} ended with other checkpoints than its events")
        return self.faults

    def _check_activation(self, activation: Activation) -> None:
        if not activation.events:  # nothing is granted by a process that has written nothing
            return
        if activation.granted is not None and self._root is not None:
            self._grant(self._root, activation.granted)
        generations = self._interrupted()
        started: dict[str, int] = {}
        self._history.extend(activation.events)
        recorded = self._history.recorded_events[-len(activation.events) :]
        after = {event.id: checkpoint for event, checkpoint in recorded}
        for event in sorted(activation.events, key=lambda event: event.stamp.timestamp):
            run_id = event.stamp.run_id
            started.setdefault(run_id, event.stamp.timestamp)
            if isinstance(event, ev.StartRun):
                self._begin(event, activation)
            if isinstance(event, ev.StartRun | ev.ContinueToNextStep):
                self._count_step(event)
            if isinstance(event, ev.StartGeneration):
                for account in self._accounts(run_id):
                    self._forget_excess(account)
                self._check_start(event, after[event.id], generations, started)
            usage = ev.generation_usage(event)
            if usage is not None or after[event.id].state is State.STOPPED:
                self._settle(run_id, usage or Usage(), generations)
            if isinstance(event, ev.StopRunByExceededBudget):
                self._check_stop(event)

    def _interrupted(self) -> Generations:
        """Generations that the death of a process has ended: they may be asked for again.

        No event says when. What is used up before can never be used by them.
        """
        generations = Generations()
        for run_id, checkpoint in self._history.newest_by_run.items():
            if checkpoint.state is State.GENERATING_TOOL_CALL:
                generations.unmarked.add(run_id)
                estimate = self._estimate(checkpoint, Generations())
                if any(map(partial(self._is_too_much, estimate), self._accounts(run_id))):
                    generations.impossible.add(run_id)
        return generations

    def _is_too_much(self, estimate: Usage, account: str) -> bool:
        used, base, limits = self._sums[account], self._bases[account], self._limits[account]
        tokens = used.tokens - base.tokens + estimate.total_tokens
        dollars = used.dollars - base.dollars + (estimate.cost_usd or 0.0)
        return (limits.max_tokens is not None and tokens > limits.max_tokens) or (
            limits.max_cost_usd is not None and dollars > limits.max_cost_usd + ROUNDING
        )

    def _grant(self, run_id: str, budget: Budget) -> None:
        self._limits[run_id] = budget
        self._forget_excess(run_id)
        base = self._sums[run_id]
        self._bases[run_id] = Sums(base.steps, base.tokens, base.dollars)

    def _forget_excess(self, account: str) -> None:
        self._over.pop((account, "tokens"), None)
        self._over.pop((account, "dollars"), None)

    def _begin(self, event: ev.StartRun, activation: Activation) -> None:
        run_id = event.stamp.run_id
        self._sums[run_id], self._bases[run_id] = Sums(), Sums()
        if event.delegated_by is None:
            self._root = run_id
            if activation.granted is not None:
                self._limits[run_id] = activation.granted
            return
        self._parents[run_id] = event.delegated_by.run_id
        own = self._definitions.experts[event.expert.key].budget
        if own is not None:
            self._limits[run_id] = own

    def _accounts(self, run_id: str | None, *, all_runs: bool = False) -> Iterator[str]:
        """The run and those above it; only those with limits unless all are wanted."""
        while run_id is not None:
            if all_runs or run_id in self._limits:
                yield run_id
            run_id = self._parents.get(run_id)

    def _count_step(self, event: ev.RunEvent) -> None:
        for account in self._accounts(event.stamp.run_id, all_runs=True):
            self._sums[account].steps += 1
            most = self._limits.get(account, Budget()).max_steps
            used = self._sums[account].steps - self._bases[account].steps
            if most is not None and used > most:
                self.faults.append(f"{event.id} is step {used} of {most}")

    def _check_start(
        self,
        event: ev.StartGeneration,
        checkpoint: Checkpoint,
        generations: Generations,
        started: Mapping[str, int],
    ) -> None:
        run_id = event.stamp.run_id
        estimate = self._estimate(checkpoint, generations)
        generations.estimates[run_id] = estimate
        for account in self._accounts(run_id):
            planned = Sums()
            for other, usage in generations.estimates.items():
                if account in self._accounts(other):
                    planned.add(usage)
            used, base, limits = self._sums[account], self._bases[account], self._limits[account]
            tokens = used.tokens - base.tokens + planned.tokens
            dollars = used.dollars - base.dollars + planned.dollars
            if limits.max_tokens is not None and tokens > limits.max_tokens:
                self.faults.append(f"{event.id} plans {tokens} of {limits.max_tokens} tokens")
            if limits.max_cost_usd is not None and dollars > limits.max_cost_usd + ROUNDING:
                self.faults.append(f"{event.id} plans {dollars} of {limits.max_cost_usd} dollars")
            if limits.max_seconds is not None:
                began = started.get(account, event.stamp.timestamp)
                if event.stamp.timestamp > began + limits.max_seconds * 1000 + LATE_MS:
                    self.faults.append(f"{event.id} is after the end of the time of {account}")

    def _estimate(self, checkpoint: Checkpoint, generations: Generations) -> Usage:
        read = checkpoint.context_tokens + estimate_tokens(unseen_messages(checkpoint))
        if not checkpoint.context_tokens:
            expert = self._definitions.experts[checkpoint.expert.key]
            toolbox = build_toolbox(
                expert,
                self._definitions,
                STANDARD_TOOLS,
                is_delegated=checkpoint.delegated_by is not None,
            )
            read += estimate_tool_tokens(toolbox.definitions)
        said = estimate_output_tokens(generations.replies.get(checkpoint.run_id, ()))
        price = self._tree.price
        cost = price.cost_usd(input_tokens=read, cached=0, cache_creation=0, output_tokens=said)
        return Usage(input_tokens=read, output_tokens=said, total_tokens=read + said, cost_usd=cost)

    def _settle(
        self,
        run_id: str,
        usage: Usage,
        generations: Generations,
    ) -> None:
        """Count what a generation used. It may exceed a limit by what was not reserved for it."""
        if run_id in generations.impossible and usage.total_tokens:
            self.faults.append(f"{run_id} is asked again, which is more than there is")
        generations.impossible.discard(run_id)
        estimate = generations.estimates.pop(run_id, Usage())
        if usage.output_tokens:
            generations.replies.setdefault(run_id, []).append(usage.output_tokens)
        for account in self._accounts(run_id, all_runs=True):
            self._sums[account].add(usage)
        for account in self._accounts(run_id):
            used, base, limits = self._sums[account], self._bases[account], self._limits[account]
            pairs = (
                (
                    "tokens",
                    limits.max_tokens,
                    used.tokens - base.tokens,
                    usage.total_tokens - estimate.total_tokens,
                ),
                (
                    "dollars",
                    limits.max_cost_usd,
                    used.dollars - base.dollars,
                    (usage.cost_usd or 0.0) - (estimate.cost_usd or 0.0),
                ),
            )
            for unit, limit, total, excess in pairs:
                key = (account, unit)
                self._over[key] = self._over.get(key, 0.0) + max(excess, 0)
                if (
                    limit is not None
                    and total > limit + self._over[key] + ROUNDING
                    and not generations.unmarked
                ):
                    self.faults.append(f"{run_id} lets {account} use {total} of {limit} {unit}")

    def _check_stop(self, event: ev.StopRunByExceededBudget) -> None:
        account = event.budget_run_id
        is_above = account in self._accounts(event.stamp.run_id)
        if not is_above or getattr(self._limits[account], LIMITS[event.limit]) is None:
            self.faults.append(f"{event.id} is stopped by {event.limit} of {account}")


class EndCheck:
    """Compares the end of a job with what its tree has."""

    def __init__(self, tree: Tree, life: Life, checkpoints: Mapping[str, Checkpoint]) -> None:
        self._tree = tree
        self._life = life
        self._events = group_by_run(life.events)
        self._checkpoints = checkpoints
        self._paths = life.ledger.paths
        self.faults = list(life.ledger.faults)

    def run(self) -> list[str]:
        """What is wrong."""
        root = next(iter(self._checkpoints.values()))
        if root.status != "completed":
            self.faults.append(f"the job ended as {root.status}: {root.error} {root.exhausted}")
        if len(set(self._paths.values())) != len(self._paths):
            self.faults.append("a delegate was called twice")
        for checkpoint in self._checkpoints.values():
            if checkpoint.status == "completed":
                self._check_completed(checkpoint)
            elif not self._is_cut_off(checkpoint):
                self.faults.append(f"{self._paths[checkpoint.run_id]}: {checkpoint.status}")
        return self.faults

    def _check_completed(self, checkpoint: Checkpoint) -> None:
        path = self._paths[checkpoint.run_id]
        length = self._tree.length(path)
        if checkpoint.text != f"done {path}":
            self.faults.append(f"{path} says {checkpoint.text!r}")
        if self._life.ledger.replies.get(path) != length:
            self.faults.append(f"{path} has {self._life.ledger.replies.get(path)} of {length}")
        results: dict[str, list[ToolResult]] = {}
        for event in self._events[checkpoint.run_id]:
            if isinstance(event, ev.RecordToolResult):
                results.setdefault(event.tool_result.id, []).append(event.tool_result)
        for position in range(length):
            for call in self._tree.reply(path, position).calls:
                answers = results.get(call.tool_call_id, [])
                if call.tool_name == "attemptCompletion":
                    continue
                if len(answers) != 1:
                    self.faults.append(f"{call.tool_call_id} has {len(answers)} answers")
                elif call.tool_name != "echo":
                    self._check_delegate(call.args["query"], answers[0])

    def _check_delegate(self, path: str, answer: ToolResult) -> None:
        run_id = next((each for each, known in self._paths.items() if known == path), "")
        child = self._checkpoints.get(run_id)
        if child is None:
            self.faults.append(f"{path} has an answer and no run: {answer.text}")
        elif child.status == "completed":
            if answer.is_error or answer.text != f"done {path}":
                self.faults.append(f"{path} is answered with {answer.text!r}")
        elif child.exhausted is None or child.exhausted.message not in answer.text:
            self.faults.append(f"{path}, {child.status}, is answered with {answer.text!r}")

    def _is_cut_off(self, checkpoint: Checkpoint | None) -> bool:
        """Whether a budget of the delegate itself, or of one above it, has ended it for good."""
        while checkpoint is not None:
            exhausted, parent = checkpoint.exhausted, checkpoint.delegated_by
            if exhausted is not None and exhausted.run_id == checkpoint.run_id:
                return parent is not None
            checkpoint = self._checkpoints.get(parent.run_id) if parent else None
        return False
