"""Many jobs in one process: jobs a second, and memory for each job that is under way.

The model takes 200 ms for each of five steps. All jobs share a tool of the process itself, or one
skill server that is a process of its own, on both sides: what is compared is the runtimes, and not
how fast the machine starts programs. perstack exports its spans.
"""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.stage import Figure, Model, Row, figure, model, order, perform, workplace

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


@dataclass(frozen=True)
class Setting:
    """What the jobs share, and against which bare loops they are measured."""

    title: str
    expert: str
    tool: str
    has_server: bool
    floors: dict[str, dict[str, Any]] = field(default_factory=lambda: FLOORS)


SETTINGS = (
    Setting("a tool of the process", "reader", "readTextFile", has_server=False),
    Setting(
        "one skill server",
        "sharer",
        "echo",
        has_server=True,
        floors={DURABLE: FLOORS[DURABLE]},
    ),
)


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Perstack and the bare loops in turn."""
    return [row for setting in SETTINGS for jobs in JOBS for row in rows_for(setting, jobs, rounds)]


def rows_for(setting: Setting, jobs: int, rounds: int) -> list[Row]:
    """All contestants with this many jobs."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in (*setting.floors, OURS)}
    query = order("crowd", steps=STEPS, latency_ms=LATENCY_MS, tool=setting.tool)
    with model() as served_by:
        for _ in range(rounds):
            for name, floor in setting.floors.items():
                options: dict[str, Any] = {
                    "has_server": setting.has_server,
                    "queries": [query] * jobs,
                }
                with workplace() as folder:
                    seen[name].append(perform("floor", folder, served_by, **floor, **options))
            seen[OURS].append(ours_once(setting, jobs, query, served_by))
    rates = {
        name: figure(jobs / report["seconds"] for report in reports)
        for name, reports in seen.items()
    }
    memory = [report["memory"] for report in seen[OURS] if report["memory"] is not None]
    rows = compare(f"{jobs} jobs, {setting.title}", rates)
    if memory:
        title = f"{jobs} jobs, {setting.title}: memory for a job"
        rows.append(Row(title, "MiB", figure(mib / jobs for mib in memory)))
    return rows


def ours_once(setting: Setting, jobs: int, query: str, served_by: Model) -> dict[str, Any]:
    """One round of perstack."""
    requests = [{"expert_key": setting.expert, "query": query}] * jobs
    with workplace() as folder:
        report = perform(
            "product",
            folder,
            served_by,
            requests=requests,
            is_warm=True,
            warm=(setting.expert, setting.tool),
            has_spans=True,
        )
    if report["statuses"] != ["completed"]:
        raise RuntimeError(f"jobs ended as {report['statuses']}")
    return report


def compare(title: str, rates: dict[str, Figure]) -> list[Row]:
    """The rates of the bare loops, and that of perstack against each."""
    ours = rates[OURS]
    floors = {name: rate for name, rate in rates.items() if name != OURS}
    rows = [Row(f"{title}: {name}", "jobs/s", rate) for name, rate in floors.items()]
    for name, rate in floors.items():
        limit = -LIMIT if name == DURABLE else None
        ratio = ours.middle / rate.middle
        rows.append(Row(f"{title}: {OURS} to {name}", "jobs/s", ours, ratio, limit))
    return rows
