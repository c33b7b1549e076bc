"""What came of tests: for people, for programs, and for those who run them in CI."""

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from perstack.analysis.expectations import Outcome
from perstack.cli.formatting import format_count
from perstack.cli.terminal import Terminal
from perstack.cli.test_runner import TestResult

_XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def print_result(test_result: TestResult, terminal: Terminal) -> None:
    mark, colour = ("✓", "green") if test_result.passed else ("✗", "red")
    outcome, case = test_result.outcome, test_result.test_case
    statistics = f" ({_format_statistics(outcome)})" if outcome else ""
    terminal.write_line(f"{mark} {case.expert_key}: {case.name}{statistics}", colour)
    for result in outcome.verifications if outcome else ():
        sign = "✓" if result.passed else "✗"
        weight = "" if result.priority == "must" else " (should)"
        terminal.write_line(f"    {sign} {result.name}{weight}")
    terminal.write_lines((f"    {problem}", "red") for problem in test_result.problems)
    if test_result.workspace is not None:
        terminal.write_line(f"    kept in {test_result.workspace}")


def print_totals(test_results: Sequence[TestResult], terminal: Terminal) -> None:
    passed = sum(test_result.passed for test_result in test_results)
    colour = "green" if passed == len(test_results) else "red"
    terminal.write_line(f"{passed} of {format_count(len(test_results), 'test')} passed", colour)


def report_document(test_results: Sequence[TestResult]) -> dict[str, Any]:
    passed = sum(test_result.passed for test_result in test_results)
    return {
        "ok": passed == len(test_results),
        "passed": passed,
        "failed": len(test_results) - passed,
        "tests": [_result_document(test_result) for test_result in test_results],
    }


def junit_report(test_results: Sequence[TestResult]) -> str:
    """All of it in the XML that CI services read."""
    failed = sum(not test_result.passed for test_result in test_results)
    suite = ET.Element("testsuite", name="perstack", tests=str(len(test_results)))
    suite.set("failures", str(failed))
    for test_result in test_results:
        seconds = test_result.outcome.seconds if test_result.outcome else 0.0
        case = ET.SubElement(
            suite,
            "testcase",
            classname=test_result.test_case.expert_key,
            name=_xml_safe(test_result.test_case.name),
            time=f"{seconds:.3f}",
        )
        if test_result.problems:
            failure = ET.SubElement(case, "failure", message=_xml_safe(test_result.problems[0]))
            failure.text = _xml_safe("\n".join(test_result.problems))
    ET.indent(suite)
    return f"{_XML_HEAD}\n{ET.tostring(suite, encoding='unicode')}\n"


def _xml_safe(text: str) -> str:
    return _NOT_IN_XML.sub("�", text)


def _format_statistics(outcome: Outcome) -> str:
    steps = format_count(outcome.steps, "step")
    return f"{steps}, {outcome.tokens:,} tokens, {outcome.seconds:.1f} s"


def _result_document(test_result: TestResult) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "expert": test_result.test_case.expert_key,
        "name": test_result.test_case.name,
        "query": test_result.test_case.test.query,
        "passed": test_result.passed,
        "problems": list(test_result.problems),
    }
    outcome = test_result.outcome
    if outcome is not None:
        entry |= {
            "jobId": test_result.job_id,
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
    if test_result.workspace is not None:
        entry["workspace"] = str(test_result.workspace)
    return entry
