"""From the start of a process to the model's next call: a job of 400 steps against a new job."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.stage import Model, Row, figure, model, order, perform, workplace

STEPS = 400
ROUNDS = 5
LIMIT = 1.2
Times = list[tuple[float, float]]


def times_to_call(
    stopped: Path, served_by: Model, run: str, request: dict[str, Any]
) -> tuple[float, float]:
    """Until the model is asked: seconds from the start of the process, and ms from the job's."""
    before = len(served_by.times(run))
    with tempfile.TemporaryDirectory(prefix="perstack-benchmark-") as name:
        folder = Path(name) / "workspace"
        shutil.copytree(stopped, folder)
        started = time.monotonic()
        report = perform("product", folder, served_by, requests=[request], is_warm=True)
    asked = served_by.times(run)[before][0]
    return asked - started, (asked - report["started"]) * 1000


def measure() -> list[Row]:
    """A long job is stopped by its limit; then that job and a new one are started in turn."""
    resumed: Times = []
    fresh: Times = []
    with model() as served_by, workplace() as stopped:
        long = {"expert_key": "worker", "query": order("long", steps=STEPS), "max_steps": STEPS}
        job = perform("product", stopped, served_by, requests=[long])
        for _ in range(ROUNDS):
            new = {"expert_key": "worker", "query": order("new", steps=0)}
            fresh.append(times_to_call(stopped, served_by, "new", new))
            old = {"job_id": job["job_ids"][0]}
            resumed.append(times_to_call(stopped, served_by, "long", old))
    rows: list[Row] = []
    parts = (("process and job", "s", LIMIT), ("job in a warm engine", "ms", None))
    for position, (part, unit, limit) in enumerate(parts):
        new_job = figure(times[position] for times in fresh)
        old_job = figure(times[position] for times in resumed)
        rows.append(Row(f"{part}: a new job", unit, new_job))
        ratio = old_job.middle / new_job.middle
        rows.append(Row(f"{part}: after {STEPS} steps", unit, old_job, ratio, limit))
    return rows
