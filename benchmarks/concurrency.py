"""Many jobs in one process: jobs a second, and memory for each job that is under way.

The model takes 200 ms for each of five steps. The tool is one of the process itself, so that what
is compared is the runtimes and not how fast the machine starts programs.
"""

from typing import Any

from benchmarks.stage import Row, figure, model, order, perform, workplace

JOBS = (50, 200)
STEPS = 5
LATENCY_MS = 200
ROUNDS = 3
LIMIT = 0.7
CLIENTS = ("aiohttp", "httpx", "litellm")


def measure() -> list[Row]:
    """Perstack and the bare loop over three clients in turn."""
    return [row for jobs in JOBS for row in rows_for(jobs)]


def rows_for(jobs: int) -> list[Row]:
    """All contestants with this many jobs."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in (*CLIENTS, "perstack")}
    query = order("crowd", steps=STEPS, latency_ms=LATENCY_MS, tool="readTextFile")
    with model() as served_by:
        for _ in range(ROUNDS):
            for client in CLIENTS:
                options: dict[str, Any] = {"has_server": False, "queries": [query] * jobs}
                with workplace() as folder:
                    report = perform("floor", folder, served_by, client=client, **options)
                seen[client].append(report)
            with workplace() as folder:
                requests = [{"expert_key": "reader", "query": query}] * jobs
                report = perform("product", folder, served_by, requests=requests, is_warm=True)
            if report["statuses"] != ["completed"]:
                raise RuntimeError(f"jobs ended as {report['statuses']}")
            seen["perstack"].append(report)
    rates = {
        name: figure(jobs / report["seconds"] for report in reports)
        for name, reports in seen.items()
    }
    ours = rates["perstack"]
    rows = [Row(f"{jobs} jobs: perstack", "jobs/s", ours)]
    for client in CLIENTS:
        limit = -LIMIT if client == CLIENTS[0] else None
        ratio = ours.middle / rates[client].middle
        rows.append(Row(f"{jobs} jobs: bare {client}", "jobs/s", rates[client], ratio, limit))
    memory = [report["memory"] for report in seen["perstack"] if report["memory"] is not None]
    if memory:
        rows.append(
            Row(f"{jobs} jobs: memory for a job", "MiB", figure(mib / jobs for mib in memory))
        )
    return rows
