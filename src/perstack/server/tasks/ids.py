"""Names of tasks.

A job that has finished can go on with a follow-up, but a task that has finished never works again.
So a task's id names the job and the stretch of it that the call set in motion. Where a task is over
although its stretch goes on, because its client was given a question as the result, a further call
gets an id of its own for the rest of the stretch.
"""

import re

_NUMBERED = re.compile(r"(?P<job_id>.+)\.(?P<number>[0-9]{1,6})(?:~[0-9]{1,6})?", re.DOTALL)


def task_id(job_id: str, number: int, again: int = 0) -> str:
    """The id of a task.

    Args:
        job_id: Its job.
        number: The stretch of the job that it began with, counted from 0.
        again: How many tasks of that stretch are over already.
    """
    if again:
        return f"{job_id}.{number}~{again}"
    is_plain = number == 0 and _NUMBERED.fullmatch(job_id) is None
    return job_id if is_plain else f"{job_id}.{number}"


def parts_of(given: str) -> tuple[str, int]:
    """The job id and the number that a task id is made of."""
    match = _NUMBERED.fullmatch(given)
    return (given, 0) if match is None else (match["job_id"], int(match["number"]))
