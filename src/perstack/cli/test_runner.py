"""Runs one test of an expert: a job in a workspace, compared with the expected outcome."""

import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from perstack.analysis.expectations import Outcome, unmet
from perstack.cli.formatting import shorten
from perstack.definition.budget import Budget
from perstack.definition.loader import LoadedDefinitions
from perstack.definition.model import Provider, ProviderSetting
from perstack.definition.tests import ExpertTest
from perstack.engine import open_engine
from perstack.errors import ConfigError, PerstackError
from perstack.runtime.start_plan import JobRequest
from perstack.settings import Settings

NAME_CHARACTERS = 80
STORE_FOLDER = "perstack"
"""The store of a workspace, which is not copied for a test."""


@dataclass(frozen=True, slots=True)
class TestCase:
    expert_key: str
    test: ExpertTest

    @property
    def name(self) -> str:
        return shorten(self.test.name or self.test.query or str(self.test.inputs), NAME_CHARACTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestEnvironment:
    """How tests are run.

    Attributes:
        loaded: The definition file.
        settings: For the engine; a test overrides some of them.
        workspace: The folder of which each test gets a copy.
        script: Played in each test instead of its own.
        is_live: Call the model, even if there are scripts.
        is_in_place: Tests work in the workspace itself.
        keeps_copies: Keep the copies, with their jobs.
    """

    loaded: LoadedDefinitions
    settings: Settings
    workspace: Path
    script: Path | None = None
    is_live: bool = False
    is_in_place: bool = False
    keeps_copies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """The result of a test; it passed if there is no problem.

    Attributes:
        test_case: The test.
        problems: What differs from the expectations.
        outcome: How the job ended; `None` if it did not start.
        job_id: Of the job.
        workspace: The kept folder, with the job in it.
    """

    test_case: TestCase
    problems: tuple[str, ...]
    outcome: Outcome | None = None
    job_id: str | None = None
    workspace: Path | None = None

    @property
    def passed(self) -> bool:
        return not self.problems


async def run_test(test_case: TestCase, environment: TestEnvironment) -> TestResult:
    """Run one test. Errors become problems of the result."""
    test, settings = test_case.test, environment.settings
    keeps_store = environment.keeps_copies or environment.is_in_place
    request = JobRequest(
        expert_key=test_case.expert_key,
        query=test.query,
        inputs=test.inputs,
        max_steps=test.expect.max_steps or settings.max_steps,
    )
    kept_workspace = None
    try:
        async with _test_workspace(test_case, environment) as workspace:
            settings = replace(
                settings,
                workspace=workspace,
                budget=Budget(max_seconds=test.expect.max_seconds).stricter(settings.budget),
                is_in_memory=not keeps_store,
            )
            loaded = _with_script(test_case, environment)
            async with open_engine(settings, loaded=loaded) as engine:
                if environment.keeps_copies and not environment.is_in_place:
                    kept_workspace = workspace
                view = await (await engine.start(request)).wait()
    except PerstackError as error:
        return TestResult(test_case=test_case, problems=(str(error),), workspace=kept_workspace)
    outcome = Outcome(
        status=view.job.status,
        text=view.text,
        steps=view.job.total_steps,
        tokens=view.usage.total_tokens,
        seconds=(view.job.updated_at - view.job.started_at) / 1000,
        verifications=view.verifications,
    )
    return TestResult(
        test_case=test_case,
        problems=unmet(test.expect, outcome),
        outcome=outcome,
        job_id=view.job.id,
        workspace=kept_workspace,
    )


def _with_script(test_case: TestCase, environment: TestEnvironment) -> LoadedDefinitions:
    """The definitions with the script of the test in the place of a model."""
    loaded, script = environment.loaded, environment.script
    if script is None and test_case.test.script:
        script = loaded.path.parent / test_case.test.script
    if script is None or environment.is_live:
        return loaded
    setting = ProviderSetting(script=str(script.resolve()))
    provider = Provider(provider_name="scripted", setting=setting)
    definitions = loaded.definitions.model_copy(update={"provider": provider})
    return replace(loaded, definitions=definitions)


@asynccontextmanager
async def _test_workspace(
    test_case: TestCase, environment: TestEnvironment
) -> AsyncGenerator[Path]:
    own_workspace = test_case.test.workspace
    source = (
        environment.loaded.path.parent / own_workspace if own_workspace else environment.workspace
    )
    if environment.is_in_place:
        yield source
        return
    copy = Path(tempfile.mkdtemp(prefix="perstack-test-"))
    try:
        await to_thread.run_sync(_copy_workspace, source, copy)
        yield copy
    finally:
        if not environment.keeps_copies:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(partial(shutil.rmtree, copy, ignore_errors=True))


def _copy_workspace(source: Path, copy: Path) -> None:
    def ignored_names(folder: str, _names: list[str]) -> list[str]:
        is_top = Path(folder) == source
        return [STORE_FOLDER] * is_top + [copy.name] * (Path(folder) == copy.parent)

    try:
        shutil.copytree(source, copy, symlinks=True, ignore=ignored_names, dirs_exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {source} cannot be copied for a test: {_copy_error_reason(error)}.",
            hint="Give the tests a smaller folder with workspace = or --workspace.",
        ) from error


def _copy_error_reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):
        # One entry for each file that could not be copied: from where, to where, and why.
        path, _, why = error.args[0][0]
        return f"{path}: {why}"
    return error.strerror or "the system gave no reason"
