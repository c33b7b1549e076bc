"""What came of tests: for people, for programs, and for those who run them in CI."""

import json
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from perstack.cli.output import Terminal
from perstack.cli.trial import Verdict

_XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def tell(verdict: Verdict, terminal: Terminal) -> None:
    """One test, as soon as it is made."""
    mark, colour = ("✓", "green") if verdict.passed else ("✗", "red")
    figures = f" ({_figures(verdict)})" if verdict.outcome else ""
    terminal.line(f"{mark} {verdict.trial.expert_key}: {verdict.trial.name}{figures}", colour)
    for result in verdict.outcome.verifications if verdict.outcome else ():
        sign = "✓" if result.passed else "✗"
        weight = "" if result.priority == "must" else " (should)"
        terminal.line(f"    {sign} {result.name}{weight}")
    for problem in verdict.problems:
        terminal.line(f"    {problem}", "red")
    if verdict.workspace is not None:
        terminal.line(f"    kept in {verdict.workspace}")


def sum_up(verdicts: Sequence[Verdict], terminal: Terminal) -> None:
    """How many passed."""
    passed = sum(verdict.passed for verdict in verdicts)
    tests = "1 test" if len(verdicts) == 1 else f"{len(verdicts)} tests"
    terminal.line(f"{passed} of {tests} passed", "green" if passed == len(verdicts) else "red")


def document(verdicts: Sequence[Verdict]) -> str:
    """All of it as JSON."""
    passed = sum(verdict.passed for verdict in verdicts)
    whole = {
        "ok": passed == len(verdicts),
        "passed": passed,
        "failed": len(verdicts) - passed,
        "tests": [_entry(verdict) for verdict in verdicts],
    }
    return json.dumps(whole, ensure_ascii=False, indent=2)


def junit(verdicts: Sequence[Verdict]) -> str:
    """All of it in the XML that CI services read."""
    failed = sum(not verdict.passed for verdict in verdicts)
    suite = ET.Element("testsuite", name="perstack", tests=str(len(verdicts)))
    suite.set("failures", str(failed))
    for verdict in verdicts:
        seconds = verdict.outcome.seconds if verdict.outcome else 0.0
        case = ET.SubElement(
            suite,
            "testcase",
            classname=verdict.trial.expert_key,
            name=_sound(verdict.trial.name),
            time=f"{seconds:.3f}",
        )
        if verdict.problems:
            failure = ET.SubElement(case, "failure", message=_sound(verdict.problems[0]))
            failure.text = _sound("\n".join(verdict.problems))
    ET.indent(suite)
    return f"{_XML_HEAD}\n{ET.tostring(suite, encoding='unicode')}\n"


def _sound(text: str) -> str:
    return _NOT_IN_XML.sub("�", text)


def _figures(verdict: Verdict) -> str:
    outcome = verdict.outcome
    if outcome is None:
        return ""
    steps = "1 step" if outcome.steps == 1 else f"{outcome.steps} steps"
    return f"{steps}, {outcome.tokens:,} tokens, {outcome.seconds:.1f} s"


def _entry(verdict: Verdict) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "expert": verdict.trial.expert_key,
        "name": verdict.trial.name,
        "query": verdict.trial.test.query,
        "passed": verdict.passed,
        "problems": list(verdict.problems),
    }
    outcome = verdict.outcome
    if outcome is not None:
        entry |= {
            "jobId": verdict.job_id,
            "status": outcome.status,
            "text": outcome.text,
            "steps": outcome.steps,
            "tokens": outcome.tokens,
            "seconds": outcome.seconds,
            "verifications": [
                result.model_dump(mode="json", by_alias=True, exclude_none=True)
                for result in outcome.verifications
            ],
        }
    if verdict.workspace is not None:
        entry["workspace"] = str(verdict.workspace)
    return entry
