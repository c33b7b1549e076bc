"""Linear growth: a long job takes no more bytes a step than a short one, and goes on as soon."""

import shutil
import statistics
import subprocess
import time
from itertools import pairwise
from pathlib import Path

from _stage import PERSTACK, conclude, say

from benchmarks.stage import Model, model, order, perform, surroundings
from benchmarks.stage import workplace as workspace
from benchmarks.storage import bytes_in

LENGTHS = (25, 50, 100, 200, 400)
STEPS = LENGTHS[-1]
ROUNDS = 9
SLOWER = 1.2
# What a step costs at the end, against what it costs at the beginning: 1 if growth is linear, and
# pages are a coarse measure of the first few steps.
STEEPER = 1.15


def long_job(folder: Path, served_by: Model, steps: int) -> str:
    """Let a job use so many steps, after which it can be continued; its id."""
    query = order(f"long-{steps}", steps=STEPS + 1)
    request = {"expert_key": "worker", "query": query, "max_steps": steps}
    report = perform("product", folder, served_by, requests=[request])
    if report["statuses"] != ["stoppedByMaxSteps"]:
        raise RuntimeError(f"the job of {steps} steps ended as {report['statuses']}")
    job_id: str = report["job_ids"][0]
    return job_id


def seconds_to_model(folder: Path, served_by: Model, run: str, words: list[str]) -> float:
    """From the start of `perstack run` to the first request that its model gets."""
    before = len(served_by.times(run))
    started = time.monotonic()
    subprocess.run(
        # With this filter nobody listens to a reply as it comes, and the model gives it whole.
        [*PERSTACK, "run", *words, "--filter", "completeRun"],
        cwd=folder,
        env=surroundings(served_by),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return served_by.times(run)[before][0] - started


def compare(stopped: Path, served_by: Model, job_id: str, rounds: int) -> float:
    """A new job and the long one are started in turn; the ratio of their times."""
    fresh: list[float] = []
    resumed: list[float] = []
    ways = (
        (fresh, "new", ["worker", order("new", steps=0)]),
        (resumed, f"long-{STEPS}", ["--continue-job", job_id]),
    )
    for _ in range(rounds):
        for times, run, words in ways:
            folder = stopped.with_name("copy")
            shutil.copytree(stopped, folder)
            times.append(seconds_to_model(folder, served_by, run, words))
            shutil.rmtree(folder)
    for title, times in (("a new job", fresh), (f"one of {STEPS} steps", resumed)):
        middle, best = statistics.median(times), min(times)
        say(f"{title:16} asks its model after {middle:.2f} s (median), {best:.2f} s (best)")
    return statistics.median(resumed) / statistics.median(fresh)


def main() -> None:
    """Measure the sizes, then the times."""
    sizes: dict[int, int] = {}
    job_id = ""
    with model() as served_by, workspace() as place:
        for steps in LENGTHS:
            folder = place / str(steps)
            folder.mkdir()
            for name in ("perstack.toml", "note.txt"):
                shutil.copy(place / name, folder)
            job_id = long_job(folder, served_by, steps)
            sizes[steps] = bytes_in(folder)
            say(f"{steps:4} steps  {sizes[steps] / 1024:7.0f} KiB")
        marginal = [
            (sizes[more] - sizes[fewer]) / (more - fewer) for fewer, more in pairwise(LENGTHS)
        ]
        say("a further step: " + ", ".join(f"{cost:.0f}" for cost in marginal) + " bytes")
        ratio = compare(place / str(STEPS), served_by, job_id, ROUNDS)
    steeper = marginal[-1] / marginal[0]
    conclude(
        "growth",
        holds=steeper <= STEEPER and ratio <= SLOWER,
        seen=f"a step costs {steeper:.2f} times at {STEPS} steps what it costs at {LENGTHS[0]} "
        f"(limit {STEEPER}); a job of {STEPS} steps goes on after {ratio:.2f} times the time of a "
        f"new one, over {ROUNDS} rounds (limit {SLOWER})",
    )


if __name__ == "__main__":
    main()
