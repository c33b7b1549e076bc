"""How a check that an expert declares is made in the workspace."""

from anyio import to_thread

from perstack.core.verification import (
    VerificationResult,
    judge_command,
    judge_value,
    judged,
)
from perstack.definition.verification import Verification
from perstack.skills.base.execute import Exec, run_to_end
from perstack.skills.base.failure import in_words
from perstack.skills.base.files_read import read_text
from perstack.skills.base.process import MAX_OUTPUT_BYTES
from perstack.skills.base.tool import Surroundings
from perstack.skills.guard import child_environment
from perstack.skills.workspace import Workspace


async def make_check(
    surroundings: Surroundings, verification: Verification, answer: str
) -> VerificationResult:
    """Run the command, or read what shall fit the schema, and judge it.

    Raises:
        ToolFailure: The command cannot be started, or the file not be read.
    """
    if verification.command is not None:
        return await _run(surroundings, verification, verification.command)
    schema = verification.json_schema or {}
    if verification.file is None:
        return judge_value(verification, schema, answer)
    text = await to_thread.run_sync(_text_of, surroundings.workspace, verification.file)
    return judge_value(verification, schema, text)


async def _run(
    surroundings: Surroundings, verification: Verification, line: tuple[str, ...]
) -> VerificationResult:
    wanted = Exec(command=line[0], args=line[1:], timeout=verification.timeout)
    environment, _ = child_environment(surroundings.environment)
    completion = await run_to_end(surroundings, wanted, environment)
    output = completion.stdout.text + completion.stderr.text
    if completion.ending == "timedOut":
        problem = f"the command took longer than {verification.timeout} ms"
        return judged(verification, problem, output=output)
    if completion.ending == "flooded":
        problem = f"the command wrote more than {MAX_OUTPUT_BYTES // 1024**2} MiB"
        return judged(verification, problem, output=output)
    return judge_command(verification, completion.exit_code, output)


def _text_of(workspace: Workspace, path: str) -> str:
    with in_words("File", path), workspace.entry(path, follow=True) as entry:
        return read_text(entry).removeprefix("\ufeff")
