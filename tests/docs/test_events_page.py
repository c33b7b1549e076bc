"""The page about events has the names of a status: in jobs, checkpoints, over MCP, as a code."""

import re
from pathlib import Path
from typing import get_args

from perstack.cli.terminal import exit_code_for_status
from perstack.core.checkpoint import JOB_STATUS_OF, JobStatus
from perstack.server.summaries import PUBLIC_STATUS

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
CELLS = re.compile(r"^\| `(\w+)` \| (.*) \| `(\w+)` \| (.*) \|$", re.MULTILINE)


def test_statuses_are_told_with_all_their_names_and_exit_codes() -> None:
    rows = {row[0]: row for row in CELLS.findall(PAGE.partition("### Statuses")[2])}
    assert set(rows) == set(get_args(JobStatus))
    for status, (_, checkpoints, public, code) in rows.items():
        named = [name for name, of_job in JOB_STATUS_OF.items() if of_job == status]
        assert re.findall(r"`(\w+)`", checkpoints) == (named or ["running"])
        assert public == PUBLIC_STATUS[status]
        if code[0].isdigit():
            assert int(code.split(",")[0]) == exit_code_for_status(status, None)
