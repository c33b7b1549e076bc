"""What a step costs: the time between a reply of the model and the next request to it.

perstack has everything durable, as always, and exports its spans unless it is said otherwise.
"""

import statistics
from itertools import pairwise
from pathlib import Path

from benchmarks.stage import Model, Row, figure, model, order, perform, workplace

STEPS = 400
ROUNDS = 3
WARMING_UP = 5
# The most that a step may cost with everything on, by the steps of the job, against a bare loop.
LIMITS = {100: 3.0, 400: 4.0}
FLOORS = {
    "bare loop": {"client": "aiohttp"},
    "bare loop, durable": {"client": "aiohttp", "is_durable": True},
    "bare loop over litellm": {"client": "litellm"},
}
OURS = "perstack"
CONTESTANTS = (*FLOORS, "perstack without spans", OURS)


def gaps_ms(served_by: Model, run: str) -> list[float]:
    """Milliseconds from each reply to the next request."""
    times = served_by.times(run)
    return [(later[0] - earlier[1]) * 1000 for earlier, later in pairwise(times)]


def gaps_of(contestant: str, round_number: int, folder: Path, served_by: Model) -> list[float]:
    """One run of a contestant."""
    run = f"{CONTESTANTS.index(contestant)}-{round_number}"
    query = order(run, steps=STEPS)
    if contestant in FLOORS:
        perform("floor", folder, served_by, has_server=True, queries=[query], **FLOORS[contestant])
    else:
        requests = [{"expert_key": "worker", "query": query}]
        has_spans = contestant == OURS
        perform("product", folder, served_by, requests=requests, is_warm=True, has_spans=has_spans)
    gaps = gaps_ms(served_by, run)
    if len(gaps) != STEPS:
        raise RuntimeError(f"{contestant} made {len(gaps)} steps of {STEPS}")
    return gaps


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Each contestant in turn, several times."""
    seen: dict[str, list[list[float]]] = {contestant: [] for contestant in CONTESTANTS}
    with model() as served_by:
        for round_number in range(rounds):
            for contestant in CONTESTANTS:
                with workplace() as folder:
                    gaps = gaps_of(contestant, round_number, folder, served_by)
                seen[contestant].append(gaps)
    rows: list[Row] = []
    for length, limit in LIMITS.items():
        means = {
            contestant: figure(statistics.mean(gaps[WARMING_UP:length]) for gaps in all_gaps)
            for contestant, all_gaps in seen.items()
        }
        ours = means.pop(OURS)
        rows += [Row(f"{length} steps: {each}", "ms/step", means[each]) for each in means]
        for floor in FLOORS:
            title = f"{length} steps: {OURS} to {floor}"
            limit_to_floor = limit if floor == "bare loop" else None
            rows.append(
                Row(title, "ms/step", ours, ours.middle / means[floor].middle, limit_to_floor)
            )
    return rows
