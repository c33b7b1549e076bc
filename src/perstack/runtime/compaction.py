"""Replaces the beginning of a conversation by a summary, when the context window fills.

The model is shown a transcript as plain text rather than the conversation itself, so that it needs
no tools, fits into the window, and can be of another provider than the one that wrote it.
"""

from collections.abc import Iterator

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import CompactHistory, StopRunByExceededBudget
from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    Message,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)
from perstack.core.verification import truncate_middle
from perstack.errors import CONTEXT_WINDOW_EXCEEDED, ModelError
from perstack.runtime.estimates import CHARACTERS_PER_TOKEN
from perstack.runtime.run import Run

SUMMARY_PREFACE = (
    "The conversation so far was too long and is replaced by this summary of it. Go on from here."
    "\n\n"
)
MIN_REPLACED_MESSAGES = 4
DEFAULT_TRANSCRIPT_TOKENS = 30_000
"""For models whose window is not known."""

_TRANSCRIPT_SHARE = 0.5
_PART_CHARACTERS = 4000

_INSTRUCTION = (
    "You shorten the working notes of an agent. You read the transcript of its conversation and "
    "write a summary that replaces it: the agent will know nothing else of it. Keep the task and "
    "every demand of the user word for word where they are short, what was decided and why, what "
    "was found (with names, paths, numbers and identifiers exactly as they are), what was changed "
    "or delivered, what failed, and what is left to do. Leave out greetings, repetitions and what "
    "can be read again from files. Answer with the summary alone."
)


def is_due(run: Run, checkpoint: Checkpoint) -> bool:
    """Whether the window is as full as the definition file allows, and there is what to replace."""
    limit = run.job.definitions.compact_at
    usage = checkpoint.context_window_usage
    return limit is not None and usage is not None and usage >= limit and can_compact(checkpoint)


def is_remedy(run: Run, checkpoint: Checkpoint, error: ModelError) -> bool:
    """Whether a generation that failed may succeed with a shorter conversation."""
    is_declared = run.job.definitions.compact_at is not None
    return is_declared and error.name == CONTEXT_WINDOW_EXCEEDED and can_compact(checkpoint)


def can_compact(checkpoint: Checkpoint) -> bool:
    replaced = len(checkpoint.messages) - _kept_messages(checkpoint.messages)
    return replaced >= MIN_REPLACED_MESSAGES


async def compact(run: Run, checkpoint: Checkpoint) -> CompactHistory | StopRunByExceededBudget:
    """Have the model write the summary, if the budget allows that.

    Raises:
        ModelError: The provider failed, or the summary is empty.
        ConfigError: A key or another setting is missing.
    """
    kept = _kept_messages(checkpoint.messages)
    replaced = checkpoint.messages[: len(checkpoint.messages) - kept]
    window = checkpoint.context_window
    tokens = int(window * _TRANSCRIPT_SHARE) if window else DEFAULT_TRANSCRIPT_TOKENS
    transcript = "\n\n".join(_transcript_lines(replaced))
    messages = (
        InstructionMessage(stable=_INSTRUCTION),
        UserMessage(
            contents=(TextPart(text=truncate_middle(transcript, tokens * CHARACTERS_PER_TOKEN)),)
        ),
    )
    shortage = await run.reserve(messages)
    if shortage is not None:
        return run.stop_by(shortage)
    generation = await run.summarize(messages)
    if not generation.text.strip():
        raise ModelError(
            "The model answered the request for a summary of the conversation with nothing.",
            name="EmptySummaryError",
            provider=run.choice.provider.provider_name,
            is_retryable=True,
        )
    return CompactHistory(
        stamp=run.stamp(),
        summary=SUMMARY_PREFACE + generation.text.strip(),
        kept_messages=kept,
        usage=generation.usage,
    )


def _kept_messages(messages: tuple[Message, ...]) -> int:
    """How many of the newest messages stay: the last reply with calls, and what answers it."""
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if isinstance(message, ExpertMessage):
            return len(messages) - position - (0 if message.tool_calls else 1)
    return len(messages)


def _transcript_lines(messages: tuple[Message, ...]) -> Iterator[str]:
    for message in messages:
        match message:
            case InstructionMessage():
                continue
            case UserMessage():
                for part in message.contents:
                    yield f"User: {_text(part)}"
            case ExpertMessage():
                for part in message.contents:
                    yield from _expert_lines(part)
            case ToolMessage():
                for result in message.contents:
                    yield _result_line(result)


def _expert_lines(part: object) -> Iterator[str]:
    match part:
        case ToolCallPart():
            args = truncate_middle(part.args_json, _PART_CHARACTERS)
            yield f"Agent calls {part.tool_name}: {args}"
        case ThinkingPart():
            return
        case _:
            yield f"Agent: {_text(part)}"


def _result_line(result: ToolResultPart) -> str:
    outcome = "failed" if result.is_error else "answered"
    text = "\n".join(_text(part) for part in result.contents)
    return f"{result.tool_name} {outcome}: {truncate_middle(text, _PART_CHARACTERS)}"


def _text(part: object) -> str:
    return part.text if isinstance(part, TextPart) else "(an image, a file or other content)"
