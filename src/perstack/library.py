"""perstack inside another program: one call for the result, or an iterator for every event.

Both open an engine for one job and close it afterwards. A program with many jobs opens
`perstack.open_engine` once and starts them there.
"""

import asyncio  # noqa: TID251 - an async generator may be closed in another task than it runs in, which a task group does not survive
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from perstack.core.checkpoint import Checkpoint
from perstack.core.transient_events import PerstackEvent
from perstack.engine import open_engine
from perstack.jobs import JobView
from perstack.runtime.ports import Listener
from perstack.runtime.start_plan import JobRequest
from perstack.settings import Overrides, Settings

OnEvent = Callable[[PerstackEvent], object]


async def run(  # noqa: PLR0913 - options of a call are read by name
    expert_key: str | None,
    query: str = "",
    *,
    inputs: Mapping[str, Any] | None = None,
    config: Path | str | None = None,
    workspace: Path | str | None = None,
    provider: str | None = None,
    model: str | None = None,
    max_steps: int | None = None,
    job_id: str | None = None,
    environment: Mapping[str, str] | None = None,
    on_event: OnEvent | None = None,
    settings: Settings | None = None,
    overrides: Overrides | None = None,
) -> JobView:
    """Have an expert do a task and wait until the job stops.

    Cancelling the call stops the job; it stays resumable by its id.

    Args:
        expert_key: Key of the expert; may be `None` when `job_id` is given.
        query: The task; with `job_id` a follow-up, the answer to an open question, or nothing.
        inputs: The arguments that the expert declares, which may stand instead of a query.
        config: The definition file; by default the nearest `perstack.toml`.
        workspace: The folder that the expert works in; by default the current one.
        provider: Overrides the provider of the file.
        model: Overrides every model of the file.
        max_steps: Steps for this request, over all its runs.
        job_id: Continue this job instead of beginning one.
        environment: Where keys are looked up, instead of the process's environment.
        on_event: Told of each event, of a stored one once it is durable. Must not block.
        settings: Everything else that can be decided; the arguments above win over it.
        overrides: Stand-ins for model, store and so on, for tests.

    Returns:
        How the job ended: `job.status`, `text`, `output`, `questions`, `usage`, `runs`. A job that
        failed, or that waits for an answer, is a result and not an exception.

    Raises:
        PerstackError: The job could not be begun, or its store failed.
    """

    def listener(event: PerstackEvent, _checkpoint: Checkpoint | None) -> None:
        if on_event is not None:
            on_event(event)

    request = JobRequest(
        expert_key=expert_key, query=query, job_id=job_id, inputs=inputs, max_steps=max_steps
    )
    merged = _merge_settings(settings, config, workspace, provider, model, environment)
    return await _run_job(request, merged, overrides, listener)


async def stream(  # noqa: PLR0913 - as for run
    expert_key: str | None,
    query: str = "",
    *,
    inputs: Mapping[str, Any] | None = None,
    config: Path | str | None = None,
    workspace: Path | str | None = None,
    provider: str | None = None,
    model: str | None = None,
    max_steps: int | None = None,
    job_id: str | None = None,
    environment: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    overrides: Overrides | None = None,
) -> AsyncGenerator[PerstackEvent]:
    """Have an expert do a task and see each event, replies piece by piece included.

    Leaving the loop early stops the job; it stays resumable. That happens when the iterator is
    closed: at once with `contextlib.aclosing`, else when Python collects it. Runs on asyncio.

    Args:
        expert_key: As for `run`.
        query: As for `run`.
        inputs: As for `run`.
        config: As for `run`.
        workspace: As for `run`.
        provider: As for `run`.
        model: As for `run`.
        max_steps: As for `run`.
        job_id: As for `run`.
        environment: As for `run`.
        settings: As for `run`.
        overrides: As for `run`.

    Yields:
        The events of all runs of the job, in the order in which they happen.

    Raises:
        PerstackError: The job could not be begun, or its store failed.
    """
    request = JobRequest(
        expert_key=expert_key, query=query, job_id=job_id, inputs=inputs, max_steps=max_steps
    )
    merged = _merge_settings(settings, config, workspace, provider, model, environment)
    merged = replace(merged, is_streaming=True)
    # Without a limit: a slow reader must neither hold up the job nor miss an event.
    send, receive = anyio.create_memory_object_stream[PerstackEvent](math.inf)
    scope = anyio.CancelScope()
    work = asyncio.create_task(_feed_events(request, merged, overrides, send, scope))
    try:
        with receive:
            async for event in receive:
                yield event
        await work
    finally:
        # The job stops before the iterator ends, also for a reader that is being cancelled.
        with anyio.CancelScope(shield=True):
            scope.cancel()
            await asyncio.wait([work])


async def _feed_events(
    request: JobRequest,
    settings: Settings,
    overrides: Overrides | None,
    send: MemoryObjectSendStream[PerstackEvent],
    scope: anyio.CancelScope,
) -> None:
    with send, scope:
        await _run_job(
            request, settings, overrides, lambda event, _checkpoint: _send_if_open(send, event)
        )


def _send_if_open(send: MemoryObjectSendStream[PerstackEvent], event: PerstackEvent) -> None:
    """Pass an event on unless the reader has closed the stream."""
    if send.statistics().open_receive_streams:
        send.send_nowait(event)


async def _run_job(
    request: JobRequest, settings: Settings, overrides: Overrides | None, listener: Listener
) -> JobView:
    async with open_engine(settings, overrides) as engine:
        job = await engine.start(request, listener)
        return await job.wait()
    raise AssertionError("an engine suppresses no exception")


def _merge_settings(
    settings: Settings | None,
    config: Path | str | None,
    workspace: Path | str | None,
    provider: str | None,
    model: str | None,
    environment: Mapping[str, str] | None,
) -> Settings:
    base = settings or Settings()
    return replace(
        base,
        config=base.config if config is None else Path(config),
        workspace=base.workspace if workspace is None else Path(workspace),
        provider=provider or base.provider,
        model=model or base.model,
        environment=base.environment if environment is None else environment,
    )
