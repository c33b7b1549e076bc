"""One test of an expert: a folder to work in, a job in it, and whether it came out as expected."""

import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from perstack.cli.summary import short
from perstack.core.expectation import Outcome, unmet
from perstack.definition.expert_test import ExpertTest
from perstack.definition.load import Loaded
from perstack.definition.model import Provider, ProviderSetting
from perstack.engine import open_engine
from perstack.errors import ConfigError, PerstackError
from perstack.jobs import JobView
from perstack.runtime.continuation import JobRequest
from perstack.settings import Parts, Settings

NAME_CHARACTERS = 80
STORE_FOLDER = "perstack"
"""The jobs of a workspace are its own, and no part of what a test begins with."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A test of an expert that is to be made."""

    expert_key: str
    test: ExpertTest

    @property
    def name(self) -> str:
        """What people are shown."""
        return short(self.test.name or self.test.query or str(self.test.inputs), NAME_CHARACTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Laboratory:
    """How tests are made.

    Attributes:
        loaded: The definition file.
        settings: For the engine, but for what a test decides.
        workspace: The folder of which each test gets a copy.
        script: Played in each test instead of its own.
        is_live: The model is asked, whatever scripts there are.
        is_in_place: Tests work in the folder itself.
        is_kept: The copies stay, with the jobs in them.
        parts: Stand-ins, for our own tests.
    """

    loaded: Loaded
    settings: Settings
    workspace: Path
    script: Path | None = None
    is_live: bool = False
    is_in_place: bool = False
    is_kept: bool = False
    parts: Parts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a test; it passed if there is no problem.

    Attributes:
        trial: The test.
        problems: What was not as expected.
        outcome: How the job ended; `None` if it could not begin.
        job_id: Of the job.
        workspace: The folder that was kept, with the job in it.
    """

    trial: Trial
    problems: tuple[str, ...]
    outcome: Outcome | None = None
    job_id: str | None = None
    workspace: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.problems


async def make(trial: Trial, around: Laboratory) -> Verdict:
    """Make one test. What goes wrong is a verdict."""
    try:
        async with _workspace(trial, around) as workspace:
            view = await _job(trial, around, workspace)
            kept = workspace if around.is_kept and not around.is_in_place else None
    except PerstackError as error:
        return Verdict(trial=trial, problems=(str(error),))
    if isinstance(view, PerstackError):
        return Verdict(trial=trial, problems=(str(view),), workspace=kept)
    outcome = Outcome(
        status=view.job.status,
        text=view.text,
        steps=view.job.total_steps,
        tokens=view.usage.total_tokens,
        seconds=(view.job.updated_at - view.job.started_at) / 1000,
        verifications=view.verifications,
    )
    return Verdict(
        trial=trial,
        problems=unmet(trial.test.expect, outcome),
        outcome=outcome,
        job_id=view.job.id,
        workspace=kept,
    )


async def _job(trial: Trial, around: Laboratory, workspace: Path) -> JobView | PerstackError:
    test, keeps = trial.test, around.is_kept or around.is_in_place
    settings = replace(
        around.settings,
        workspace=workspace,
        max_job_seconds=test.expect.max_seconds,
        is_in_memory=not keeps,
    )
    request = JobRequest(
        expert_key=trial.expert_key,
        query=test.query,
        inputs=test.inputs,
        max_steps=test.expect.max_steps or around.settings.max_steps,
    )
    async with open_engine(settings, around.parts, _played(trial, around)) as engine:
        try:
            return await (await engine.start(request)).wait()
        except PerstackError as error:
            # Carried out of the engine's task group by hand, which would wrap it in a group.
            return error
    raise AssertionError("an engine is not left without a result")


def _played(trial: Trial, around: Laboratory) -> Loaded:
    """The definitions with the script of the test in the place of a model."""
    own = around.loaded.path.parent / trial.test.script if trial.test.script else None
    script = around.script or own
    if script is None or around.is_live:
        return around.loaded
    setting = ProviderSetting(script=str(script.resolve()))
    provider = Provider(provider_name="scripted", setting=setting)
    definitions = around.loaded.definitions.model_copy(update={"provider": provider})
    return replace(around.loaded, definitions=definitions)


@asynccontextmanager
async def _workspace(trial: Trial, around: Laboratory) -> AsyncGenerator[Path]:
    own = trial.test.workspace
    source = around.loaded.path.parent / own if own else around.workspace
    if around.is_in_place:
        yield source
        return
    copy = Path(tempfile.mkdtemp(prefix="perstack-test-"))
    try:
        await to_thread.run_sync(_copy, source, copy)
        yield copy
    finally:
        if not around.is_kept:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(partial(shutil.rmtree, copy, ignore_errors=True))


def _copy(source: Path, copy: Path) -> None:
    def left_out(folder: str, _names: list[str]) -> list[str]:
        is_top = Path(folder) == source
        return [STORE_FOLDER] * is_top + [copy.name] * (Path(folder) == copy.parent)

    try:
        shutil.copytree(source, copy, symlinks=True, ignore=left_out, dirs_exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {source} cannot be copied for a test: {_reason(error)}.",
            hint="Give the tests a smaller folder with workspace = or --workspace.",
        ) from error


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):
        # One entry for each file that could not be copied: from where, to where, and why.
        path, _, why = error.args[0][0]
        return f"{path}: {why}"
    return error.strerror or "the system gave no reason"
