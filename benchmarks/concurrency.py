"""Many jobs in one process: jobs a second, and memory for each job that is under way.

The model takes 200 ms for each of five steps. All jobs share one tool of the process itself, on
both sides: what is compared is the runtimes, and not how fast the machine starts programs, because
perstack starts the servers of a skill for each job. perstack exports its spans.
"""

from typing import Any

from benchmarks.stage import Row, figure, model, order, perform, workplace

JOBS = (50, 200)
STEPS = 5
LATENCY_MS = 200
ROUNDS = 3
LIMIT = 0.75
DURABLE = "bare loop, durable"
FLOORS: dict[str, dict[str, Any]] = {
    DURABLE: {"client": "aiohttp", "is_durable": True},
    "bare loop": {"client": "aiohttp"},
    "bare loop over httpx": {"client": "httpx"},
    "bare loop over litellm": {"client": "litellm"},
}
OURS = "perstack"


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Perstack and the bare loops in turn."""
    return [row for jobs in JOBS for row in rows_for(jobs, rounds)]


def rows_for(jobs: int, rounds: int) -> list[Row]:
    """All contestants with this many jobs."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in (*FLOORS, OURS)}
    query = order("crowd", steps=STEPS, latency_ms=LATENCY_MS, tool="readTextFile")
    with model() as served_by:
        for _ in range(rounds):
            for name, floor in FLOORS.items():
                options: dict[str, Any] = {"has_server": False, "queries": [query] * jobs}
                with workplace() as folder:
                    seen[name].append(perform("floor", folder, served_by, **floor, **options))
            with workplace() as folder:
                requests = [{"expert_key": "reader", "query": query}] * jobs
                report = perform(
                    "product", folder, served_by, requests=requests, is_warm=True, has_spans=True
                )
            if report["statuses"] != ["completed"]:
                raise RuntimeError(f"jobs ended as {report['statuses']}")
            seen[OURS].append(report)
    rates = {
        name: figure(jobs / report["seconds"] for report in reports)
        for name, reports in seen.items()
    }
    ours = rates.pop(OURS)
    rows = [Row(f"{jobs} jobs: {name}", "jobs/s", rate) for name, rate in rates.items()]
    for name, rate in rates.items():
        limit = -LIMIT if name == DURABLE else None
        title = f"{jobs} jobs: {OURS} to {name}"
        rows.append(Row(title, "jobs/s", ours, ours.middle / rate.middle, limit))
    memory = [report["memory"] for report in seen[OURS] if report["memory"] is not None]
    if memory:
        rows.append(
            Row(f"{jobs} jobs: memory for a job", "MiB", figure(mib / jobs for mib in memory))
        )
    return rows
