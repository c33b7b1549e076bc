"""What a step costs: the time between a reply of the model and the next request to it."""

import statistics
from itertools import pairwise
from pathlib import Path

from benchmarks.stage import Model, Row, figure, model, order, perform, workplace

STEPS = 400
LENGTHS = (100, 400)
ROUNDS = 3
WARMING_UP = 5
LIMIT = 1.25
OPPONENT = "litellm, own HTTP handler, nothing stored"
CONTESTANTS = (OPPONENT, "perstack, spans off", "perstack, spans on")


def gaps_ms(served_by: Model, run: str) -> list[float]:
    """Milliseconds from each reply to the next request."""
    times = served_by.times(run)
    return [(later[0] - earlier[1]) * 1000 for earlier, later in pairwise(times)]


def gaps_of(contestant: str, round_number: int, folder: Path, served_by: Model) -> list[float]:
    """One run of a contestant."""
    run = f"{CONTESTANTS.index(contestant)}-{round_number}"
    query = order(run, steps=STEPS)
    if contestant == OPPONENT:
        perform("floor", folder, served_by, client="litellm", has_server=True, queries=[query])
    else:
        requests = [{"expert_key": "worker", "query": query}]
        has_spans = contestant.endswith("on")
        perform("product", folder, served_by, requests=requests, is_warm=True, has_spans=has_spans)
    gaps = gaps_ms(served_by, run)
    if len(gaps) != STEPS:
        raise RuntimeError(f"{contestant} made {len(gaps)} steps of {STEPS}")
    return gaps


def measure() -> list[Row]:
    """Each contestant in turn, several times."""
    seen: dict[str, list[list[float]]] = {contestant: [] for contestant in CONTESTANTS}
    with model() as served_by:
        for round_number in range(ROUNDS):
            for contestant in CONTESTANTS:
                with workplace() as folder:
                    gaps = gaps_of(contestant, round_number, folder, served_by)
                seen[contestant].append(gaps)
    rows: list[Row] = []
    for length in LENGTHS:
        for part, start in (("mean", WARMING_UP), ("last tenth", length - length // 10)):
            floor = 0.0
            for contestant in CONTESTANTS:
                means = figure(statistics.mean(gaps[start:length]) for gaps in seen[contestant])
                title = f"{length} {part}: {contestant}"
                if contestant == OPPONENT:
                    floor = means.middle
                    rows.append(Row(title, "ms/step", means))
                else:
                    limit = LIMIT if part == "mean" else None
                    rows.append(Row(title, "ms/step", means, means.middle / floor, limit))
    return rows
