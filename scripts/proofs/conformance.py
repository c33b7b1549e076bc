"""The official conformance suite, in both eras and with tasks, against `perstack serve --http`."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _foreign import node, node_modules
from _http import HttpServer, ask
from _stage import ROOT, conclude, plain_environment, say, workplace

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
REVISIONS = ("2025-11-25", "2026-07-28")
FIXTURES = ROOT / "scripts" / "proofs" / "conformance"
EXPECTED = FIXTURES / "expected-failures.yaml"
BAD = ("FAILURE", "WARNING")
SUITE_SECONDS = 240
ASKER = "test_input_required_result_request_state"


@dataclass(frozen=True)
class Check:
    """What one check of one scenario found."""

    scenario: str
    name: str
    status: str
    message: str

    def is_expected(self, expected: Iterable[str]) -> bool:
        """Whether it, or its whole scenario, is known to fail."""
        return self.scenario in expected or f"{self.scenario}:{self.name}" in expected


def expected_failures() -> set[str]:
    """The entries of the list that the suite reads too."""
    entries = re.findall(r"^\s+- (\S+)", EXPECTED.read_text(encoding="utf-8"), re.MULTILINE)
    return set(entries)


def suite(url: str, revision: str, folder: Path) -> tuple[int, str]:
    """Run what a revision requires, and what it lists besides; its exit code and its words."""
    program = node_modules("conformance", SUITE) / "@modelcontextprotocol" / "conformance"
    done = subprocess.run(
        [
            *(str(node()), str(program / "dist" / "index.js"), "server", "--url", url),
            *("--requirements", revision, "--expected-failures", str(EXPECTED)),
            *("--output-dir", str(folder)),
        ],
        env=plain_environment(NO_COLOR="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SUITE_SECONDS,
        check=False,
    )
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    return done.returncode, said


def checks(folder: Path) -> Iterator[Check]:
    """Everything that was checked, whether the suite scores it or not."""
    for path in sorted(folder.glob("server-*/checks.json")):
        scenario = re.sub(r"^server-(.*?)-\d{4}-\d\d-\d\dT.*$", r"\1", path.parent.name)
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for check in found:
            message = str(check.get("errorMessage") or "")
            yield Check(scenario, check["id"], check["status"], message)


def holds_for(url: str, revision: str, folder: Path) -> bool:
    """Whether nothing failed that was not expected to, nor passed that was."""
    code, said = suite(url, revision, folder)
    expected = expected_failures()
    found = list(checks(folder))
    failed = [check for check in found if check.status in BAD]
    surprises = [check for check in failed if not check.is_expected(expected)]
    for check in surprises:
        say(f"  {check.scenario}: {check.name}: {check.status}: {check.message[:300]}")
    passed = sum(check.status == "SUCCESS" for check in found)
    scenarios = len({check.scenario for check in found})
    tasks = [check for check in found if check.scenario.startswith("tasks-")]
    parts = [
        f"{scenarios} scenarios, {passed} checks passed",
        f"{len(failed) - len(surprises)} failed as expected",
        f"{len(surprises)} failed unexpectedly",
    ]
    if tasks:
        good = sum(check.status == "SUCCESS" for check in tasks)
        scored = sum(check.status in (*BAD, "SUCCESS") for check in tasks)
        parts.append(f"of tasks-* {good} of {scored} passed")
    say(f"{revision}: {', '.join(parts)}")
    if code != 0:
        say(said[said.rfind("=== SUMMARY") :][-3000:])
    return code == 0 and not surprises and bool(found)


def refuses_tampered_state(url: str) -> bool:
    """What the scenario of that name checks, on a tool whose name is short enough."""
    call: dict[str, Any] = {"name": ASKER, "arguments": {}}
    form: dict[str, Any] = {"form": {}}
    asked = ask(url, "tools/call", call, elicitation=form)["result"]
    accepted = {
        key: {"action": "accept", "content": {"ok": True}} for key in asked["inputRequests"]
    }
    again = {**call, "inputResponses": accepted}
    state = asked["requestState"]
    tampered = ask(url, "tools/call", {**again, "requestState": f"{state}x"}, elicitation=form)
    honest = ask(url, "tools/call", {**again, "requestState": state}, elicitation=form)
    holds = "error" in tampered and honest["result"]["resultType"] == "complete"
    say(f"a tampered requestState: {tampered.get('error', 'ACCEPTED')}")
    return holds


def main() -> None:
    """Run the revisions that are named, or both."""
    revisions = sys.argv[1:] or list(REVISIONS)
    with workplace() as home:
        folder = home / "experts"
        shutil.copytree(FIXTURES, folder)
        # The skill's server is started by the name `python`, and shall be the one with the SDK.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {**plain_environment(), "PATH": path}
        with HttpServer(folder, environment, "--task-after", "0.6") as server:
            held = [holds_for(server.url, each, home / each) for each in revisions]
            held.append(refuses_tampered_state(server.url))
        traces = server.stderr.count("Traceback")
        if traces:
            say(server.stderr[-3000:])
    conclude(
        "conformance",
        holds=all(held) and not traces and server.exit_code == 0,
        seen=f"{SUITE.rpartition('@')[2]}: requirements {' and '.join(revisions)}, tasks-*: "
        f"{'no' if all(held) else 'some'} unexpected failure, {traces} tracebacks, "
        f"exit code {server.exit_code}",
    )


if __name__ == "__main__":
    main()
