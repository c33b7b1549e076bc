"""`perstack test`: the tests that experts declare, made one after the other."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from perstack.cli.args import (
    add_engine_arguments,
    add_json_argument,
    engine_settings,
    load_requested_definitions,
)
from perstack.cli.job_log import load_events
from perstack.cli.render.tests import junit_report, print_result, print_totals, report_document
from perstack.cli.terminal import EXIT_FAILURE, EXIT_SUCCESS, Terminal
from perstack.cli.test_runner import TestCase, TestEnvironment, TestResult, run_test
from perstack.core.history import JobHistory
from perstack.definition.loader import LoadedDefinitions
from perstack.errors import ConfigError, StoreError, UnknownExpertError
from perstack.replay.script_export import export_script_text

EXAMPLE = 'Add a table [[experts."NAME".tests]] with query = "…"; docs/testing.md has more.'


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
        test_results = anyio.run(
            _run_tests, test_cases, environment, None if options.json else terminal
        )
    if options.json:
        terminal.write_json(report_document(test_results))
    else:
        print_totals(test_results, terminal)
    if options.junit is not None:
        try:
            options.junit.write_text(junit_report(test_results), encoding="utf-8")
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
    """What was said in a stored job, as a file that can be played."""
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
            print_result(test_result, terminal)
    return test_results
