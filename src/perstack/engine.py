"""The composition root: definitions, model, skills, store and telemetry meet here only."""

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from perstack.activation import (
    Activation,
    check_query,
    continued_activation,
    in_words,
    join,
    new_activation,
)
from perstack.core.checkpoint import Job, JobStatus
from perstack.core.trail import Step
from perstack.definition.environment import load_environment
from perstack.definition.load import Loaded, find_config, load
from perstack.definition.model import Definitions
from perstack.errors import ConfigError, JobStateError, NotFoundError
from perstack.jobs import SHUT_DOWN, JobObserver, Jobs, JobView, RunningJob, view
from perstack.llm.models import Models
from perstack.llm.router import open_model
from perstack.runtime.continuation import JobRequest, query_of, rebuild
from perstack.runtime.ports import JobRecord, Lease, Listener, Model, Orphan, Store
from perstack.runtime.spending import tokens_since
from perstack.runtime.stopping import give_up, stop_elsewhere
from perstack.runtime.trails import Trails
from perstack.settings import Parts, Settings, Surroundings
from perstack.skills.pool import open_skills
from perstack.store.memory import MemoryStore
from perstack.store.sqlite import open_sqlite_store, store_path
from perstack.telemetry.setup import configure


class Engine:
    """Starts, watches, continues and stops jobs; the one object that every face works with."""

    def __init__(self, around: Surroundings, jobs: Jobs, models: Models) -> None:
        self._around = around
        self._jobs = jobs
        self._trails = Trails(around.store)
        self._models = models

    @property
    def definitions(self) -> Definitions:
        """The present snapshot of the definition file."""
        return self._around.loaded.definitions

    @property
    def loaded(self) -> Loaded:
        """The definition file with its warnings."""
        return self._around.loaded

    @property
    def workspace(self) -> Path:
        """The folder that experts work in."""
        return self._around.workspace

    @property
    def settings(self) -> Settings:
        """What the face decided."""
        return self._around.settings

    @property
    def live_job_ids(self) -> tuple[str, ...]:
        """The jobs that it drives."""
        return tuple(job.job_id for job in self._jobs.live)

    async def tokens_since(self, moment_ms: int) -> int:
        """The tokens that the jobs of the workspace have used since a moment.

        Raises:
            StoreError: The store cannot be read.
        """
        return await tokens_since(self._around.store, moment_ms)

    async def adopt(self, loaded: Loaded) -> None:
        """Use other definitions from now on; activations of jobs that run keep theirs.

        Only what the definitions say is new: the environment stays that of the beginning.

        Raises:
            ConfigError: Their model cannot be opened. Nothing has changed then.
        """
        model = await self._models.renew(loaded.definitions)
        self._around = replace(self._around, loaded=loaded, model=model)

    def observe(self, observer: JobObserver) -> None:
        """Have `observer` told of every job that is driven here from now on."""
        self._jobs.observe(observer)

    async def warm_up(self) -> None:
        """Load what the first job would otherwise wait for."""
        await self._around.model.warm_up()

    def running(self, job_id: str) -> RunningJob | None:
        """The job, if this process drives it."""
        return self._jobs.get(job_id)

    async def start(self, request: JobRequest, listener: Listener | None = None) -> RunningJob:
        """Do what `request` asks: begin, continue, answer, resume or branch a job, or join it.

        To join is to wait for a job that is running already. The job outlives the caller.
        `listener` is told of each event of a job begun or continued here, once it is durable.

        Raises:
            ConfigError: The query is empty or too long, the inputs do not fit the expert, or a
            setting is missing.
            UnknownExpertError: The expert is not defined.
            NotFoundError: There is no such job or checkpoint.
            JobStateError: The job is running elsewhere, its state does not allow what was asked, or
                no more jobs may run.
            StoreError: The store cannot be read or written.
        """
        request = in_words(self._around, request)
        check_query(request)
        if request.job_id is not None:
            live = self._jobs.get(request.job_id)
            if live is not None and live.is_ending:
                # Its end is known already, to those who stopped it and those who read the store.
                await live.stopped.wait()
            elif live is not None:
                return join(live, request)
        job_id = request.job_id or request.new_job_id or self._around.parts.new_id()
        lease = await self._around.store.acquire(job_id)
        try:
            activation = await self._prepare(job_id, request)
            if not activation.is_at_rest:
                # The last that is waited for: what was counted is still true when it is launched.
                await self._around.parts.admit(self)
        except BaseException:
            await self._give_back(lease)
            raise
        job = activation.running_job(listener)
        if activation.is_at_rest:
            await self._give_back(lease)
            job.finish()
        else:
            self._jobs.launch(job, lease, partial(self._drive, activation))
        return job

    async def job(self, job_id: str) -> JobView:
        """How a job stands, whoever drives it.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        live = self._jobs.get(job_id)
        if live is not None and live.began.is_set():
            return live.view()
        record = await self._around.store.load(job_id)
        history = await anyio.to_thread.run_sync(rebuild, record)
        query = query_of(record, history.root.run_id)
        return view(history.checkpoints, query=query, status=record.job.status)

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        expert_key: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[Job, ...]:
        """The jobs of the workspace, newest first.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._around.store.jobs(
            status=status, expert_key=expert_key, limit=limit, offset=offset
        )

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        """The jobs left in the middle of their work after a moment, newest first.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._around.store.orphans(since_ms)

    async def record(self, job_id: str) -> JobRecord:
        """A job with all its events.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        return await self._around.store.load(job_id)

    async def trail(self, job_id: str) -> list[Step]:
        """The events of a job in the order of writing, each with the checkpoint it led to.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        return await self._trails.of(job_id)

    async def cancel(self, job_id: str, reason: str) -> JobView:
        """Stop a job at once; it stays resumable. A job that has stopped already is left as it is.

        Raises:
            NotFoundError: There is no such job.
            JobStateError: Another process drives it, and does not stop it although it was asked to.
            StoreError: The store cannot be read or written.
        """
        live = self._jobs.get(job_id)
        if live is not None:
            live.cancel(reason)
            await live.stopped.wait()
            return live.view()
        await stop_elsewhere(self._around.store, self._around.parts.clock, job_id, reason)
        return await self.job(job_id)

    async def give_up(self, job_id: str, reason: str) -> JobView:
        """Record that a job is cancelled which waits, or which was left in the middle of its work.

        It stays resumable. One that has finished is left as it is.

        Raises:
            NotFoundError: There is no such job.
            JobStateError: A process drives it.
            StoreError: The store cannot be read or written.
        """
        await give_up(self._around.store, self._around.parts.clock, job_id, reason)
        return await self.job(job_id)

    async def _drive(self, activation: Activation, job: RunningJob, lease: Lease) -> None:
        async with self._models.used(activation.around.model):
            await activation.drive(job, lease)

    async def _prepare(self, job_id: str, request: JobRequest) -> Activation:
        around = self._around
        if request.job_id is None:
            if request.new_job_id is not None and await self._exists(job_id):
                raise JobStateError(
                    f"Job {job_id} exists already.", hint="Continue it, or choose another id."
                )
            return new_activation(around, job_id, request)
        return continued_activation(around, request, rebuild(await around.store.load(job_id)))

    async def _exists(self, job_id: str) -> bool:
        try:
            await self._around.store.load(job_id)
        except NotFoundError:
            return False
        return True

    async def _give_back(self, lease: Lease) -> None:
        with anyio.CancelScope(shield=True):
            await self._around.store.release(lease)


@asynccontextmanager
async def open_engine(
    settings: Settings, parts: Parts | None = None, loaded: Loaded | None = None
) -> AsyncGenerator[Engine]:
    """Load the definitions, unless they are given, and open everything that jobs need.

    Leaving the context stops all jobs, resumable.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
        ConfigError: A setting outside it is missing or wrong.
        StoreError: The store cannot be opened.
    """
    parts = parts or Parts()
    async with AsyncExitStack() as stack:
        loaded = loaded or load(find_config(settings.config, Path.cwd()), strict=settings.is_strict)
        around, models = await _put_together(settings, parts, loaded, stack)
        async with anyio.create_task_group() as tasks:
            jobs = Jobs(tasks, around.store, parts.clock, settings.max_job_seconds)
            try:
                yield Engine(around, jobs, models)
            finally:
                jobs.cancel_all(SHUT_DOWN)


async def _put_together(
    settings: Settings, parts: Parts, loaded: Loaded, stack: AsyncExitStack
) -> tuple[Surroundings, Models]:
    home = loaded.path.parent if settings.home == "config" else Path.cwd()
    workspace = _existing((settings.workspace or home).resolve())
    base = os.environ if settings.environment is None else settings.environment
    environment = load_environment(
        settings.env_paths or loaded.definitions.env_path,
        home,
        base,
        must_exist=settings.env_paths is not None,
    )
    telemetry = configure(environment, transport=settings.transport)
    stack.callback(telemetry.stop)
    store = await _open_store(settings, parts, workspace, stack)
    models = Models(_opener(settings, parts, environment), loaded.definitions)
    stack.push_async_callback(models.aclose)
    around = Surroundings(
        settings=settings,
        workspace=workspace,
        environment=environment,
        loaded=loaded,
        model=models.present,
        store=store,
        open_skills=parts.open_skills
        or (
            lambda definitions: open_skills(
                workspace=workspace, environment=environment, definitions=definitions
            )
        ),
        telemetry=parts.telemetry or telemetry.telemetry,
        flush_telemetry=telemetry.flush_soon,
        parts=parts,
    )
    return around, models


def _opener(
    settings: Settings, parts: Parts, environment: Mapping[str, str]
) -> Callable[[Definitions], Model]:
    def opened(definitions: Definitions) -> Model:
        return parts.model or open_model(
            definitions=definitions,
            environment=environment,
            provider=settings.provider,
            model=settings.model,
            reasoning_budget=settings.reasoning_budget,
            timeout_ms=settings.timeout_ms,
        )

    return opened


def _existing(workspace: Path) -> Path:
    if not workspace.is_dir():
        raise ConfigError(
            f"The workspace {workspace} is not a folder.",
            hint="Create it or give another --workspace.",
        )
    return workspace


async def _open_store(
    settings: Settings, parts: Parts, workspace: Path, stack: AsyncExitStack
) -> Store:
    if parts.store is not None:
        return parts.store
    if settings.is_in_memory:
        return MemoryStore(clock=parts.clock)
    return await stack.enter_async_context(
        open_sqlite_store(store_path(workspace), clock=parts.clock)
    )
