"""Kill -9 in mid-run: restart, continue by job_id, and nothing that was stored happens again."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _stage import PERSTACK, StdioServer, conclude, plain_environment, say, workplace

from tests.model_server import ModelServer, Reply, Request, ToolCall

QUERY = "Write the log, then say done."
TOML = """
model = "gpt-5"

[provider]
providerName = "openai"

[experts."scribe"]
description = "Writes a log."
instruction = "Write the log line by line."

[experts."scribe".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["exec", "appendTextFile", "attemptCompletion"]
"""
LINES = 5
SLOW_SECONDS = 0.4


@dataclass(frozen=True)
class Outcome:
    """What one killed and continued job left behind."""

    killed_at: float
    status: str
    answer: str
    lines: list[str]
    repeated_requests: int
    doubts: int


def line_of(step: int) -> Reply:
    """A call that appends one line after a while, so that kills also meet it at work."""
    command = f"sleep {SLOW_SECONDS / 2}; echo line {step} >> log.txt"
    arguments: dict[str, Any] = {
        "command": "sh",
        "args": ["-c", command],
        "env": {},
        "cwd": ".",
        "stdout": True,
        "stderr": True,
    }
    return Reply(tool_calls=(ToolCall("exec", arguments, f"call-{step}"),))


def script(request: Request) -> Reply:
    """Write the lines one by one, then finish; slow enough to be killed in between."""
    time.sleep(SLOW_SECONDS / 2)
    answered = len(request.tool_results)
    if answered < LINES:
        return line_of(answered + 1)
    return Reply(tool_calls=(ToolCall("attemptCompletion", {"result": "done"}, "call-done"),))


def killed_once(folder: Path, model: ModelServer, after_seconds: float) -> Outcome:
    """Start a job, kill the server `after_seconds` later, and continue the job in a new one."""
    (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
    address = f"{model.base_url}/v1"
    environment = plain_environment(OPENAI_API_KEY="sk-proof", OPENAI_BASE_URL=address)
    before = len(model.requests)

    first = StdioServer([*PERSTACK, "serve"], cwd=folder, environment=environment)
    first.handshake()
    job_id = first.call("scribe", query=QUERY, wait_seconds=0)["job_id"]
    while len(model.requests) == before:
        time.sleep(0.01)
    time.sleep(after_seconds)
    first.kill()

    second = StdioServer([*PERSTACK, "serve"], cwd=folder, environment=environment)
    second.handshake()
    result: dict[str, Any] = second.call("scribe", query="", job_id=job_id, wait_seconds=60)
    second.close()

    requests = model.requests[before:]
    bodies = Counter(json.dumps(request.body, sort_keys=True) for request in requests)
    log = folder / "log.txt"
    return Outcome(
        killed_at=after_seconds,
        status=result.get("status", "?"),
        answer=result.get("text", ""),
        lines=log.read_text(encoding="utf-8").splitlines() if log.exists() else [],
        repeated_requests=sum(count - 1 for count in bodies.values()),
        doubts=sum("effect is unknown" in json.dumps(request.body) for request in requests[-1:]),
    )


def is_right(outcome: Outcome) -> bool:
    """The job ended; each line is there once, or its call was reported as in doubt."""
    wanted = [f"line {number}" for number in range(1, LINES + 1)]
    twice = [line for line, count in Counter(outcome.lines).items() if count > 1]
    missing = [line for line in wanted if line not in outcome.lines]
    return (
        outcome.status == "completed"
        and "done" in outcome.answer
        and not twice
        and len(missing) <= outcome.doubts
        and outcome.repeated_requests <= 1
    )


def main() -> None:
    """Kill a job at a dozen moments."""
    outcomes: list[Outcome] = []
    with ModelServer(script) as model:
        for point in range(12):
            with workplace() as folder:
                outcome = killed_once(folder, model, 0.05 + point * SLOW_SECONDS / 2.5)
            outcomes.append(outcome)
            say(
                f"killed after {outcome.killed_at:4.2f} s: {outcome.status}, "
                f"{len(outcome.lines)} of {LINES} lines, {len(set(outcome.lines))} distinct, "
                f"{outcome.doubts} reported in doubt, {outcome.repeated_requests} request repeated"
            )
    right = sum(is_right(outcome) for outcome in outcomes)
    conclude(
        "crash",
        holds=right == len(outcomes),
        seen=f"{right} of {len(outcomes)} killed jobs ended, with no stored result repeated",
    )


if __name__ == "__main__":
    main()
