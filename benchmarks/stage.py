"""What the benchmarks share: a place, the model, programs to measure, and figures."""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOOL_SERVER = ROOT / "tests" / "skills" / "servers" / "plain.py"
THREE_DIGITS = 100
NOTE = "x" * 1000
TOML = f"""
model = "gpt-5"
maxSteps = 1000

[provider]
providerName = "openai"

[experts."worker"]
description = "Works."
instruction = "Work."

[experts."worker".skills."plain"]
type = "mcpStdioSkill"
command = {json.dumps(sys.executable)}
args = [{json.dumps(str(TOOL_SERVER))}]
pick = ["echo"]

[experts."sharer"]
description = "Works."
instruction = "Work."

[experts."sharer".skills."plain"]
type = "mcpStdioSkill"
command = {json.dumps(sys.executable)}
args = [{json.dumps(str(TOOL_SERVER))}]
scope = "engine"
pick = ["echo"]

[experts."reader"]
description = "Reads."
instruction = "Read."

[experts."reader".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["readTextFile"]
"""


@dataclass(frozen=True)
class Model:
    """The endpoint that every opponent asks."""

    port: int

    def times(self, run: str) -> list[tuple[float, float, int]]:
        """When each request of a run came and was answered, in seconds, and its bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", f"/times/{run}")
        answer: list[tuple[float, float, int]] = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@contextmanager
def model() -> Generator[Model]:
    """A model in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.responder"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Model(int(process.stdout.readline() if process.stdout else 0))
    finally:
        process.kill()
        process.communicate()


@contextmanager
def workplace() -> Generator[Path]:
    """A folder with experts and a note; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="perstack-benchmark-") as name:
        folder = Path(name)
        (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
        (folder / "note.txt").write_text(NOTE, encoding="utf-8")
        yield folder


def order(run: str, *, steps: int, latency_ms: int = 0, tool: str = "echo") -> str:
    """The query that tells the model what to answer."""
    return f"run={run} steps={steps} latency={latency_ms} tool={tool}"


def surroundings(served_by: Model) -> dict[str, str]:
    """The environment of a program that shall ask this model."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "OPENAI_API_KEY": "sk-benchmark",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{served_by.port}/v1",
        "PYTHONPATH": str(ROOT),
        # The opponent's fastest way; perstack decides for itself.
        "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "True",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def perform(program: str, folder: Path, served_by: Model, **options: Any) -> dict[str, Any]:
    """Run a program of this folder in a process of its own; what it reports is returned."""
    environment = surroundings(served_by)
    if options.pop("has_spans", False):
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{served_by.port}"
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{program}", json.dumps(options)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(finished.stdout)
    return report


def memory_mib(field: str = "VmRSS") -> float | None:
    """Memory of this process, now (`VmRSS`) or at its highest (`VmHWM`); Linux only."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


@dataclass(frozen=True)
class Figure:
    """The middle of several measurements, and how far they lie apart."""

    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{_short(self.middle)} ({_short(min(self.values))} to {_short(max(self.values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= THREE_DIGITS else f"{value:.3g}"


def figure(values: Iterable[float]) -> Figure:
    """Figures of several rounds as one."""
    return Figure(tuple(values))


@dataclass(frozen=True)
class Row:
    """A line of a benchmark's report.

    `limit` is what the ratio to the opponent, or the figure where there is none, may be at most;
    or, negative, what it must be at least.
    """

    title: str
    unit: str
    figure: Figure
    ratio: float | None = None
    limit: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the limit is kept; without one it is."""
        value = self.figure.middle if self.ratio is None else self.ratio
        if self.limit is None:
            return True
        return value <= self.limit if self.limit > 0 else value >= -self.limit

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f"x{self.ratio:.2f}"
        text = f"{self.title:48} {self.figure!s:>28} {self.unit:8} {ratio:>6}"
        if self.limit is not None:
            bound = "at most" if self.limit > 0 else "at least"
            text += f"  {bound} {abs(self.limit):<5g} {'PASS' if self.holds else 'FAIL'}"
        return text.rstrip()

    def as_json(self) -> Mapping[str, Any]:
        """The row for a program."""
        return {
            "title": self.title,
            "unit": self.unit,
            "values": self.figure.values,
            "median": self.figure.middle,
            "ratio": self.ratio,
            "limit": self.limit,
        }
