"""Runs the verifications of an expert in the workspace."""

from anyio import to_thread

from perstack.core.verification import (
    VerificationResult,
    build_verification_result,
    evaluate_command,
    evaluate_value,
)
from perstack.definition.verification import Verification
from perstack.skills.builtin.execute import MAX_OUTPUT_BYTES, ExecArguments, run_in_workspace
from perstack.skills.builtin.read import read_text
from perstack.skills.builtin.tool import ToolContext
from perstack.skills.builtin.workspace import Workspace
from perstack.skills.child_environment import child_environment


async def run_verification(
    context: ToolContext, verification: Verification, answer: str
) -> VerificationResult:
    """Run the command, or check the file or the answer against the schema.

    Raises:
        ToolFailure: The command cannot be started, or the file cannot be read.
    """
    if verification.command is not None:
        return await _verify_command(context, verification, verification.command)
    schema = verification.json_schema or {}
    if verification.file is None:
        return evaluate_value(verification, schema, answer)
    text = await to_thread.run_sync(_read_file, context.workspace, verification.file)
    return evaluate_value(verification, schema, text)


async def _verify_command(
    context: ToolContext, verification: Verification, argv: tuple[str, ...]
) -> VerificationResult:
    exec_arguments = ExecArguments(command=argv[0], args=argv[1:], timeout=verification.timeout)
    environment, _ = child_environment(context.environment)
    result = await run_in_workspace(context, exec_arguments, environment)
    output = result.stdout.text + result.stderr.text
    if result.exit_reason == "timedOut":
        problem = f"the command took longer than {verification.timeout} ms"
        return build_verification_result(verification, problem, output=output)
    if result.exit_reason == "flooded":
        problem = f"the command wrote more than {MAX_OUTPUT_BYTES // 1024**2} MiB"
        return build_verification_result(verification, problem, output=output)
    return evaluate_command(verification, result.exit_code, output)


def _read_file(workspace: Workspace, path: str) -> str:
    with workspace.entry(path, follow=True) as entry:
        return read_text(entry).removeprefix("\ufeff")
