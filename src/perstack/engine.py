"""The composition root: wires definitions, model, skills, store and telemetry together."""

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from perstack.core.checkpoint import Job, JobStatus
from perstack.core.history import RecordedEvent
from perstack.core.messages import Usage
from perstack.definition.loader import (
    LoadedDefinitions,
    environment_folders,
    find_config,
    load_definitions,
    load_environment,
)
from perstack.definition.model import Definitions
from perstack.errors import ConfigError, JobStateError, NotFoundError
from perstack.job_start import (
    JOB_REQUEST,
    JobExecution,
    apply_inputs,
    encode_request,
    foreign_job_error,
    join_running,
    prepare_continuation,
    prepare_new_job,
)
from perstack.jobs import SHUTDOWN_REASON, JobHandle, JobObserver, JobRunner, JobView, build_view
from perstack.llm.model_factory import ModelCache, open_model
from perstack.request_checks import check_files, check_new_ids, check_query
from perstack.runtime.cancellation import (
    mark_cancelled,
    request_remote_cancel,
    withdraw_request,
)
from perstack.runtime.history_cache import JobHistoryCache
from perstack.runtime.ports import JobRecord, Lease, Listener, Model, Orphan, Store, TaskStore
from perstack.runtime.start_plan import JobRequest, query_of_run, rebuild_state
from perstack.runtime.usage import usage_since
from perstack.settings import EngineContext, Overrides, Settings
from perstack.skills.engine_skills import open_engine_skills
from perstack.store.memory import MemoryStore
from perstack.stores import open_store, sqlite_url, store_path
from perstack.task_groups import unwrap_group
from perstack.telemetry.setup import configure_telemetry

TOOLS_FOLDER = "tools"
"""Beside the store: what servers with `lazyInit` offered when they were last started."""


class Engine:
    """Starts, continues, reads and cancels the jobs of one workspace."""

    def __init__(self, context: EngineContext, runner: JobRunner, models: ModelCache) -> None:
        self._context = context
        self._runner = runner
        self._history_cache = JobHistoryCache(context.store)
        self._models = models

    @property
    def definitions(self) -> Definitions:
        """The present snapshot of the definition file."""
        return self._context.loaded.definitions

    @property
    def loaded(self) -> LoadedDefinitions:
        """The definition file with its warnings."""
        return self._context.loaded

    @property
    def workspace(self) -> Path:
        return self._context.workspace

    @property
    def settings(self) -> Settings:
        return self._context.settings

    @property
    def task_store(self) -> TaskStore:
        return self._context.store

    @property
    def live_job_ids(self) -> tuple[str, ...]:
        return tuple(job.job_id for job in self._runner.live)

    async def usage_since(self, moment_ms: int) -> Usage:
        """What the jobs of the workspace have used since a moment, in dollars as far as is known.

        Raises:
            StoreError: The store cannot be read.
        """
        return await usage_since(self._context.store, moment_ms)

    async def reload_definitions(self, loaded: LoadedDefinitions) -> None:
        """Use other definitions from now on; activations of jobs that run keep theirs.

        Only what the definitions say is new: the environment stays that of the beginning.

        Raises:
            ConfigError: Their model cannot be opened. Nothing has changed then.
        """
        model = await self._models.update(loaded.definitions)
        self._context = replace(self._context, loaded=loaded, model=model)

    def subscribe(self, observer: JobObserver) -> None:
        """Call `observer` on each change of the jobs that this process drives from now on."""
        self._runner.subscribe(observer)

    async def warm_up(self) -> None:
        """Load what the first generation would otherwise wait for."""
        await self._context.model.warm_up()

    def running(self, job_id: str) -> JobHandle | None:
        """The job, if this process drives it."""
        return self._runner.get(job_id)

    async def start(self, request: JobRequest, listener: Listener | None = None) -> JobHandle:
        """Start, continue, answer, resume or branch a job as requested, or join it.

        To join is to wait for a job that is running already. The job outlives the caller.
        `listener` receives each event of a job that is driven here, once it is durable.

        Raises:
            ConfigError: The query is empty or too long, the inputs do not fit the expert, or a
            setting is missing.
            UnknownExpertError: The expert is not defined.
            NotFoundError: There is no such job or checkpoint.
            JobStateError: The job is running elsewhere, its state does not allow what was asked, or
                no more jobs may run.
            StoreError: The store cannot be read or written.
        """
        request = self._validate(request)
        job_id = request.job_id or request.new_job_id or self._context.overrides.new_id()
        live = await self._find_live(job_id)
        if live is not None and request.job_id is not None:
            return join_running(live, request)
        if request == JobRequest(job_id=job_id, expert_key=request.expert_key):
            lease = await self._context.store.acquire(job_id)
            return await self._launch(lease, None, listener, request.expert_key)
        accepted = encode_request(self._context, request)
        lease = await self._context.store.acquire(job_id, accepted)
        return await self._launch(lease, request, listener)

    async def submit(self, request: JobRequest) -> str:
        """Accept a request durably, and return the id of its job. Nothing is driven.

        The process that calls `drive` with the id drives it; the recovery of orphans does so too.

        Raises:
            PerstackError: As `start`; or another request for the job waits to be driven.
        """
        request = self._validate(request)
        job_id = request.job_id or request.new_job_id or self._context.overrides.new_id()
        await self._prepare(job_id, request)
        accepted = encode_request(self._context, request)
        await self._context.store.submit_request(job_id, accepted)
        return job_id

    async def drive(self, job_id: str, listener: Listener | None = None) -> JobHandle:
        """Drive the accepted request of a job, or resume the job if it has none.

        Raises:
            PerstackError: As `start`. The request stays accepted.
        """
        live = await self._find_live(job_id)
        if live is not None:
            return live
        lease = await self._context.store.acquire(job_id)
        return await self._launch(lease, None, listener)

    async def _find_live(self, job_id: str) -> JobHandle | None:
        live = self._runner.get(job_id)
        if live is None or not live.is_ending:
            return live
        # Its end is visible already to those who stopped it and to readers of the store.
        await live.stopped.wait()
        return None

    async def _launch(
        self,
        lease: Lease,
        new_request: JobRequest | None,
        listener: Listener | None,
        expert_key: str | None = None,
    ) -> JobHandle:
        """Drive a new request, else the accepted one, which has to be one for `expert_key`."""
        job_id = lease.job_id
        try:
            request = new_request or await self._load_request(job_id, expert_key)
            execution = await self._prepare(job_id, request)
            if not execution.is_done:
                # Nothing is awaited between this check and the launch, so its count still holds.
                await self._context.overrides.admit(self)
        except BaseException:
            await self._release(lease, keep_request=new_request is None)
            raise
        job = execution.create_handle(listener)
        if execution.is_done:
            await self._release(lease)
            job.finish()
        else:
            self._runner.launch(job, lease, partial(self._drive, execution))
        return job

    async def job(self, job_id: str) -> JobView:
        """The state of a job, whichever process drives it.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        live = self._runner.get(job_id)
        if live is not None and live.began.is_set():
            return live.view()
        record = await self._context.store.load(job_id)
        state = await anyio.to_thread.run_sync(rebuild_state, record)
        query = query_of_run(record, state.root.run_id)
        return build_view(state.checkpoints, query=query, status=record.job.status)

    async def summary(self, job_id: str) -> Job:
        """A job of any process without its runs, for those who read it again and again.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        live = self._runner.get(job_id)
        if live is not None and live.began.is_set():
            return live.view().job
        return await self._context.store.summary(job_id)

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
        return await self._context.store.jobs(
            status=status, expert_key=expert_key, limit=limit, offset=offset
        )

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        """The jobs left before or in the middle of their work after a moment, newest first.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._context.store.orphans(since_ms)

    async def record(self, job_id: str) -> JobRecord:
        """A job with all its events.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        return await self._context.store.load(job_id)

    async def history(self, job_id: str) -> list[RecordedEvent]:
        """The events of a job in the order of writing, each with the checkpoint it led to.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        return await self._history_cache.get(job_id)

    async def cancel(self, job_id: str, reason: str) -> JobView:
        """Stop a job at once; it stays resumable. A job that has stopped already does not change.

        Raises:
            NotFoundError: There is no such job.
            JobStateError: Another process drives it, and does not stop it although it was asked to.
            StoreError: The store cannot be read or written.
        """
        live = self._runner.get(job_id)
        if live is not None:
            live.cancel(reason)
            await live.stopped.wait()
            return live.view()
        store = self._context.store
        await withdraw_request(store, job_id)
        await request_remote_cancel(store, self._context.overrides.clock, job_id, reason)
        return await self.job(job_id)

    async def mark_cancelled(self, job_id: str, reason: str) -> JobView:
        """Record that a job is cancelled which waits, or which was left in the middle of its work.

        It stays resumable. A finished one does not change.

        Raises:
            NotFoundError: There is no such job.
            JobStateError: A process drives it.
            StoreError: The store cannot be read or written.
        """
        overrides = self._context.overrides
        await mark_cancelled(
            self._context.store,
            overrides.clock,
            job_id,
            reason,
            activation_id=overrides.new_id(),
        )
        return await self.job(job_id)

    async def _drive(self, execution: JobExecution, job: JobHandle, lease: Lease) -> None:
        async with self._models.keep_open(execution.engine_context.model):
            await execution.drive(job, lease)

    async def _prepare(self, job_id: str, request: JobRequest) -> JobExecution:
        context = self._context
        if request.job_id is None:
            if request.new_job_id is not None and await self._exists(job_id):
                raise JobStateError(
                    f"Job {job_id} exists already.", hint="Continue it, or choose another id."
                )
            return prepare_new_job(context, job_id, request)
        return prepare_continuation(
            context, request, rebuild_state(await context.store.load(job_id))
        )

    def _validate(self, request: JobRequest) -> JobRequest:
        request = apply_inputs(self._context, request)
        check_query(request)
        check_new_ids(request)
        check_files(self._context.workspace, request.files)
        return request

    async def _load_request(self, job_id: str, expert_key: str | None) -> JobRequest:
        accepted = await self._context.store.request(job_id)
        if accepted is None:
            return JobRequest(job_id=job_id, expert_key=expert_key)
        request = JOB_REQUEST.validate_python(accepted)
        if expert_key is None or request.expert_key in (None, expert_key):
            return replace(request, expert_key=expert_key or request.expert_key)
        raise foreign_job_error(job_id, request.expert_key or "", expert_key)

    async def _exists(self, job_id: str) -> bool:
        try:
            await self._context.store.summary(job_id)
        except NotFoundError:
            return False
        return True

    async def _release(self, lease: Lease, *, keep_request: bool = False) -> None:
        with anyio.CancelScope(shield=True):
            await self._context.store.release(lease, keep_request=keep_request)


@asynccontextmanager
async def open_engine(
    settings: Settings, overrides: Overrides | None = None, loaded: LoadedDefinitions | None = None
) -> AsyncGenerator[Engine]:
    """Load the definitions, unless they are given, and open everything that jobs need.

    Leaving the context stops all jobs, resumable.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
        ConfigError: A setting outside it is missing or wrong.
        StoreError: The store cannot be opened.
    """
    overrides = overrides or Overrides()
    async with AsyncExitStack() as stack:
        stack.enter_context(unwrap_group())
        loaded = loaded or load_definitions(
            find_config(settings.config, Path.cwd()),
            strict=settings.is_strict,
            keep_sound=True,
        )
        context, models = await _build_context(settings, overrides, loaded, stack)
        async with anyio.create_task_group() as tasks:
            runner = JobRunner(tasks, context.store, overrides.clock)
            try:
                yield Engine(context, runner, models)
            finally:
                runner.cancel_all(SHUTDOWN_REASON)


async def _build_context(
    settings: Settings, overrides: Overrides, loaded: LoadedDefinitions, stack: AsyncExitStack
) -> tuple[EngineContext, ModelCache]:
    home = loaded.path.parent if settings.home == "config" else Path.cwd()
    workspace = _require_directory((settings.workspace or home).resolve())
    base = os.environ if settings.environment is None else settings.environment
    environment = load_environment(
        settings.env_paths or loaded.definitions.env_path,
        environment_folders(loaded.path),
        base,
        must_exist=settings.env_paths is not None,
    )
    telemetry = configure_telemetry(environment, transport=settings.transport)
    stack.callback(telemetry.stop)
    store = await _open_store(settings, overrides, workspace, stack)
    models = ModelCache(_model_factory(settings, overrides, environment), loaded.definitions)
    stack.push_async_callback(models.aclose)
    skills = await stack.enter_async_context(
        open_engine_skills(
            workspace=workspace,
            environment=environment,
            tools_folder=None
            if settings.is_in_memory
            else store_path(workspace).with_name(TOOLS_FOLDER),
        )
    )
    context = EngineContext(
        settings=settings,
        workspace=workspace,
        environment=environment,
        loaded=loaded,
        model=models.current,
        store=store,
        open_skills=overrides.open_skills or skills.open_job,
        telemetry=overrides.telemetry or telemetry.telemetry,
        flush_telemetry=telemetry.flush_soon,
        overrides=overrides,
    )
    return context, models


def _model_factory(
    settings: Settings, overrides: Overrides, environment: Mapping[str, str]
) -> Callable[[Definitions], Model]:
    def create_model(definitions: Definitions) -> Model:
        return overrides.model or open_model(
            definitions=definitions,
            environment=environment,
            provider=settings.provider,
            model=settings.model,
            reasoning_budget=settings.reasoning_budget,
            timeout_ms=settings.timeout_ms,
        )

    return create_model


def _require_directory(workspace: Path) -> Path:
    if not workspace.is_dir():
        raise ConfigError(
            f"The workspace {workspace} is not a folder.",
            hint="Create it or give another --workspace.",
        )
    return workspace


async def _open_store(
    settings: Settings, overrides: Overrides, workspace: Path, stack: AsyncExitStack
) -> Store:
    if overrides.store is not None:
        return overrides.store
    if settings.is_in_memory:
        return MemoryStore(clock=overrides.clock)
    return await stack.enter_async_context(
        open_store(sqlite_url(store_path(workspace)), overrides.clock)
    )
