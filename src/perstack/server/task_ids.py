"""Names of tasks.

A job that has finished can go on with a follow-up, but a task that has finished never works again.
So a task's id names the job and the stretch of it that the call set in motion.
"""

import re

_NUMBERED = re.compile(r"(?P<job_id>.+)\.(?P<number>[0-9]{1,6})", re.DOTALL)


def task_id(job_id: str, number: int) -> str:
    """The id of the task that began with a job's stretch of this number, counted from 0."""
    is_plain = number == 0 and _NUMBERED.fullmatch(job_id) is None
    return job_id if is_plain else f"{job_id}.{number}"


def parts_of(given: str) -> tuple[str, int]:
    """The job id and the number that a task id is made of."""
    match = _NUMBERED.fullmatch(given)
    return (given, 0) if match is None else (match["job_id"], int(match["number"]))
