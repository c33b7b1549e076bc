"""The runs of a job drawn as a tree: who called whom, and how each stands."""

from collections.abc import Sequence

from perstack.cli.summary import tokens
from perstack.core.checkpoint import Checkpoint, CheckpointStatus

_STANDING: dict[CheckpointStatus, str] = {
    "init": "· starting",
    "proceeding": "· working",
    "completed": "✓ completed",
    "stoppedByInteractiveTool": "? waiting for an answer",
    "stoppedByDelegate": "⎇ waiting for delegates",
    "stoppedByExceededMaxSteps": "✗ all steps are used",
    "stoppedByError": "✗ failed",
    "stoppedByCancellation": "✗ cancelled",
}


def tree(runs: Sequence[Checkpoint]) -> list[str]:
    """The tree, line by line.

    Args:
        runs: The newest checkpoint of each run, in the order in which they began.
    """
    children: dict[str | None, list[Checkpoint]] = {}
    for run in runs:
        delegator = run.delegated_by.run_id if run.delegated_by else None
        children.setdefault(delegator, []).append(run)
    lines: list[str] = []
    for root in children.get(None, []):
        note = " (continued)" if root.parent_id else ""
        lines.append(f"● {_label(root)}{note}")
        lines += _branches(root, children, "")
    return lines


def _branches(
    run: Checkpoint, children: dict[str | None, list[Checkpoint]], indent: str
) -> list[str]:
    lines: list[str] = []
    below = children.get(run.run_id, [])
    for position, child in enumerate(below):
        is_last = position == len(below) - 1
        lines.append(f"{indent}{'└─' if is_last else '├─'}⎇ {_label(child)}")
        lines += _branches(child, children, f"{indent}{'   ' if is_last else '│  '}")
    return lines


def _label(run: Checkpoint) -> str:
    return f"{run.expert.key}  {_STANDING[run.status]}  {tokens(run.usage)}  run {run.run_id}"
