"""Random trees of experts keep to random budgets, and reach the same end after every stop."""

import argparse
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import anyio
from _budget_checks import AccountCheck, EndCheck
from _budget_lives import Life, live
from _budget_trees import Tree
from _jumping_loop import JumpingLoop
from _stage import conclude, say

from perstack.replay.runner import replay

PORTION = 50
MOST_SHOWN = 20


@dataclass(slots=True)
class Tally:
    """What came of some trees: what was wrong, and how much there was of everything."""

    faults: list[str] = field(default_factory=list[str])
    seen: Counter[str] = field(default_factory=Counter[str])


async def try_trees(first: int, count: int, replayed_every: int) -> Tally:
    """Let the jobs of some trees live, and check each."""
    tally = Tally()
    for seed in range(first, first + count):
        tree = Tree(seed)
        try:
            life = await live(tree)
        except Exception as error:  # noqa: BLE001 - a tree that fails must not hide the others
            tally.faults.append(f"tree {seed}: {error!r}")
            continue
        _count(tally.seen, life)
        accounts = AccountCheck(tree, life)
        faults = accounts.run() + EndCheck(tree, life, accounts.checkpoints).run()
        if seed % replayed_every == 0:
            found = await replay(life.events, life.definitions)
            tally.seen["replays"] += 1
            if not found.is_identical:
                faults.append(f"the replay diverges: {found.divergence}")
        tally.faults += [f"tree {seed}: {fault}" for fault in faults[:3]]
    return tally


def _count(seen: Counter[str], life: Life) -> None:
    seen["trees"] += 1
    seen["runs"] += len(life.ledger.paths)
    seen["deaths"] += sum(activation.live is None for activation in life.activations)
    for event in life.events:
        seen["events"] += 1
        if event.type == "stopRunByExceededBudget":
            seen["stops"] += 1
            seen[event.limit] += 1


def try_portion(end: int, replayed_every: int, first: int) -> Tally:
    """The same in a process of its own, and with no sleep that takes any time."""
    count = min(PORTION, end - first)
    return anyio.run(
        try_trees, first, count, replayed_every, backend_options={"loop_factory": JumpingLoop}
    )


def main() -> None:
    """Try many trees, on all processors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="so many trees")
    parser.add_argument("--seed", type=int, default=0, help="the first tree")
    parser.add_argument("--replay-every", type=int, default=20, help="replay one of so many")
    options = parser.parse_args()
    end = options.seed + options.runs
    starts = range(options.seed, end, PORTION)
    began = time.monotonic()
    total = Tally()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for tally in pool.map(partial(try_portion, end, options.replay_every), starts):
            total.faults += tally.faults
            total.seen += tally.seen
    for fault in total.faults[:MOST_SHOWN]:
        say(f"  WRONG: {fault}")
    seen = total.seen
    limits = ", ".join(
        f"{seen[name]} of {name}" for name in ("steps", "tokens", "costUsd", "seconds")
    )
    conclude(
        "budgets",
        holds=not total.faults and seen["stops"] > 0,
        seen=f"{seen['trees']} trees of {seen['runs']} runs, {seen['deaths']} deaths, "
        f"{seen['stops']} stops ({limits}), {seen['replays']} replays, "
        f"{len(total.faults)} faults, {time.monotonic() - began:.0f} s",
    )


if __name__ == "__main__":
    main()
