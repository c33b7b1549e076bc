"""Ways to put an expert to work in these tests."""

from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import TextPart, ToolResult, UserMessage
from perstack.runtime.context import JobContext
from perstack.runtime.prompt import instruction_message
from perstack.runtime.run import RunStart
from perstack.runtime.runner import resume_run, start_run


async def work(job: JobContext, query: str = "do it", expert: str = "a") -> Checkpoint:
    """Begin a run of the expert as `run1` and carry it to its stop."""
    definition = job.definitions.experts[expert]
    messages = (
        instruction_message(definition, job.workspace, 0),
        UserMessage(contents=(TextPart(text=query),)),
    )
    first_step = job.steps.take()
    assert first_step is not None
    return await start_run(
        job, definition, RunStart(messages=messages), None, run_id="run1", first_step=first_step
    )


async def go_on(
    job: JobContext, checkpoint: Checkpoint, answer: ToolResult | None = None
) -> Checkpoint:
    """Take a run up where its checkpoint stands, with the user's answer if it waits for one."""
    expert = job.definitions.experts[checkpoint.expert.key]
    return await resume_run(job, expert, checkpoint, answer)
