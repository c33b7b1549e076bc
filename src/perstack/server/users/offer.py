"""What the server offers one caller. What a caller has no scope for does not exist to them."""

from perstack.definition.model import Expert
from perstack.server.caller import Caller
from perstack.server.calls.tools import CANCEL, JOB, JOBS, published
from perstack.server.face import Face


def experts_for(face: Face, caller: Caller) -> dict[str, Expert]:
    """The experts that the caller may call, by tool name, in the order of the file."""
    every = published(face.definitions(), face.publish)
    return {name: expert for name, expert in every.items() if caller.may_run(expert.key)}


def job_tools_for(face: Face, caller: Caller) -> frozenset[str]:
    """The names of the tools that look after jobs and that the caller may use."""
    reading = {JOB, JOBS} if caller.may_read_jobs else set[str]()
    stopping = {CANCEL} if caller.may_cancel_jobs else set[str]()
    return frozenset(reading | stopping) if face.has_job_tools else frozenset()
