"""`perstack test`: the tests that experts declare, made one after the other."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import anyio

from perstack.cli.args import (
    add_engine_arguments,
    add_json_argument,
    engine_settings,
    load_requested_definitions,
)
from perstack.cli.event_loop import run_async
from perstack.cli.formatting import format_count
from perstack.cli.job_log import load_events
from perstack.cli.terminal import EXIT_FAILURE, EXIT_SUCCESS, Terminal
from perstack.cli.test_runner import TestCase, TestEnvironment, TestResult, run_test
from perstack.core.history import JobHistory
from perstack.definition.loader import LoadedDefinitions
from perstack.errors import ConfigError, StoreError, UnknownExpertError
from perstack.replay.script_export import export_script_text

EXAMPLE = 'Add a table [[experts."NAME".tests]] with query = "…"; docs/testing.md has more.'
_XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "experts", nargs="*", metavar="EXPERT", help="whose tests; by default everybody's"
    )
    add_engine_arguments(parser, "the current folder; each test gets a copy of it")
    source_group = parser.add_mutually_exclusive_group()
    source_group.add_argument("--script", type=Path, metavar="FILE", help="play this in every test")
    source_group.add_argument(
        "--replay", metavar="JOB", help="play what the experts said in this job in every test"
    )
    source_group.add_argument(
        "--live", action="store_true", help="ask the model, also where a test has a script"
    )
    workspace_group = parser.add_mutually_exclusive_group()
    workspace_group.add_argument(
        "--in-place", action="store_true", help="work in the folder, not in copies"
    )
    workspace_group.add_argument(
        "--keep", action="store_true", help="keep the copies, with the jobs in them"
    )
    add_json_argument(parser)
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a report for CI, too")


def execute(options: Namespace, terminal: Terminal) -> int:
    loaded = load_requested_definitions(options)
    test_cases = _select_test_cases(loaded, options.experts)
    environment = _test_environment(loaded, options)
    with TemporaryDirectory(prefix="perstack-script-") as folder:
        if options.replay is not None:
            environment = replace(environment, script=_write_recorded_script(options, Path(folder)))
        test_results = run_async(
            _run_tests, test_cases, environment, None if options.json else terminal
        )
    if options.json:
        terminal.write_json(_report_document(test_results))
    else:
        _print_totals(test_results, terminal)
    if options.junit is not None:
        try:
            options.junit.write_text(_junit_report(test_results), encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{options.junit} cannot be written: {error.strerror}.") from error
    return EXIT_SUCCESS if all(test_result.passed for test_result in test_results) else EXIT_FAILURE


def _select_test_cases(loaded: LoadedDefinitions, keys: list[str]) -> list[TestCase]:
    experts = loaded.definitions.experts
    for key in keys:
        if key not in experts:
            names = ", ".join(experts) or "none"
            raise UnknownExpertError(
                f"Expert {key!r} is not defined.", hint=f"The experts are: {names}."
            )
    test_cases = [TestCase(key, test) for key in keys or experts for test in experts[key].tests]
    if not test_cases:
        whose = f"Of {', '.join(keys)}" if keys else f"In {loaded.path}"
        raise ConfigError(f"{whose} there are no tests.", hint=EXAMPLE)
    return test_cases


def _test_environment(loaded: LoadedDefinitions, options: Namespace) -> TestEnvironment:
    is_scripted = options.script is not None or options.replay is not None
    if is_scripted and options.provider not in (None, "scripted"):
        raise ConfigError(f"A script plays no model of {options.provider}.", hint="Give only one.")
    workspace = (options.workspace or Path.cwd()).resolve()
    if not workspace.is_dir():
        raise ConfigError(f"The workspace {workspace} is not a folder.")
    return TestEnvironment(
        loaded=loaded,
        settings=replace(engine_settings(options), config=loaded.path, transport="cli"),
        workspace=workspace,
        script=options.script,
        is_live=options.live,
        is_in_place=options.in_place,
        keeps_copies=options.keep,
    )


def _write_recorded_script(options: Namespace, folder: Path) -> Path:
    """The replies of a stored job as a script file."""
    (events,) = anyio.run(load_events, options, options.replay)
    path = folder / "script.json"
    history = JobHistory(events).recorded_events
    path.write_text(export_script_text(history, is_json=True), encoding="utf-8")
    return path


async def _run_tests(
    test_cases: list[TestCase], environment: TestEnvironment, terminal: Terminal | None
) -> list[TestResult]:
    test_results: list[TestResult] = []
    for test_case in test_cases:
        test_result = await run_test(test_case, environment)
        test_results.append(test_result)
        if terminal is not None:
            _print_result(test_result, terminal)
    return test_results


def _print_result(test_result: TestResult, terminal: Terminal) -> None:
    mark, colour = ("✓", "green") if test_result.passed else ("✗", "red")
    outcome, case = test_result.outcome, test_result.test_case
    line = f"{mark} {case.expert_key}: {case.name}"
    if outcome is not None:
        steps = format_count(outcome.steps, "step")
        line += f" ({steps}, {outcome.tokens:,} tokens, {outcome.seconds:.1f} s)"
    terminal.write_line(line, colour)
    for result in outcome.verifications if outcome else ():
        sign = "✓" if result.passed else "✗"
        weight = "" if result.priority == "must" else " (should)"
        terminal.write_line(f"    {sign} {result.name}{weight}")
    terminal.write_lines((f"    {problem}", "red") for problem in test_result.problems)
    if test_result.workspace is not None:
        terminal.write_line(f"    kept in {test_result.workspace}")


def _print_totals(test_results: Sequence[TestResult], terminal: Terminal) -> None:
    passed = sum(test_result.passed for test_result in test_results)
    colour = "green" if passed == len(test_results) else "red"
    terminal.write_line(f"{passed} of {format_count(len(test_results), 'test')} passed", colour)


def _report_document(test_results: Sequence[TestResult]) -> dict[str, Any]:
    passed = sum(test_result.passed for test_result in test_results)
    return {
        "ok": passed == len(test_results),
        "passed": passed,
        "failed": len(test_results) - passed,
        "tests": [_result_document(test_result) for test_result in test_results],
    }


def _junit_report(test_results: Sequence[TestResult]) -> str:
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
