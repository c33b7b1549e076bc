"""Ways to put an expert to work in these tests."""

from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import TextPart, UserMessage
from perstack.runtime.execute import begin, resume
from perstack.runtime.job import JobContext
from perstack.runtime.prompt import instruction_message
from perstack.runtime.run import Opening


async def work(job: JobContext, query: str = "do it", expert: str = "a") -> Checkpoint:
    """Begin a run of the expert as `run1` and carry it to its stop."""
    definition = job.definitions.experts[expert]
    messages = (
        instruction_message(definition, job.place, 0),
        UserMessage(contents=(TextPart(text=query),)),
    )
    first_step = job.steps.take()
    assert first_step is not None
    return await begin(
        job, definition, Opening(messages=messages), None, run_id="run1", first_step=first_step
    )


async def go_on(job: JobContext, checkpoint: Checkpoint) -> Checkpoint:
    """Take a run up where its checkpoint stands."""
    return await resume(job, job.definitions.experts[checkpoint.expert.key], checkpoint)
