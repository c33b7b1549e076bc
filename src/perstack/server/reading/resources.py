"""Which resources there are: the listing that a client shows, and the templates for the rest."""

from collections.abc import Mapping, Sequence

from mcp_types import Annotations, Resource, ResourceTemplate

from perstack.definition.model import Expert
from perstack.server.reading.addresses import SHAPES, Address, Kind, of_job
from perstack.server.reading.documents import JSON, JSON_LINES, JobEntry

NEWEST_JOBS = 20
"""How many jobs a listing names; the others are reached by their address."""

MAX_QUERY_IN_TITLE = 60


def definition_resources(experts: Mapping[str, Expert]) -> list[Resource]:
    """What there is without any job; `experts` by tool name."""
    definitions = Resource(
        name="definitions",
        title="Definitions",
        uri=Address("definitions").uri,
        description="The experts of this server and the settings they share.",
        mime_type=JSON,
    )
    return [definitions, *(_expert(name, expert) for name, expert in experts.items())]


def job_resources(jobs: Sequence[JobEntry]) -> list[Resource]:
    """The list of jobs, and those of `jobs`."""
    every = Resource(
        name="jobs",
        title="Jobs",
        uri=Address("jobs").uri,
        description="The jobs of the experts, newest first.",
        mime_type=JSON,
    )
    return [every, *map(_job, jobs)]


def templates(*, with_jobs: bool) -> list[ResourceTemplate]:
    """How the addresses of all other resources are made."""
    kinds = ("expert", *_OF_JOBS) if with_jobs else ("expert",)
    return [_template(kind) for kind in kinds]


def _expert(name: str, expert: Expert) -> Resource:
    return Resource(
        name=f"expert {name}",
        title=expert.key,
        uri=Address("expert", {"name": name}).uri,
        description=expert.description or f"The expert {expert.key}.",
        mime_type=JSON,
    )


def _job(job: JobEntry) -> Resource:
    query = " ".join(job.query.split())
    short = query if len(query) <= MAX_QUERY_IN_TITLE else f"{query[: MAX_QUERY_IN_TITLE - 1]}…"
    return Resource(
        name=f"job {job.job_id}",
        title=f"{job.expert}: {short}" if short else job.expert,
        uri=of_job("job", job.job_id).uri,
        description=f"A job of {job.expert}, {job.status}.",
        mime_type=JSON,
        annotations=Annotations(last_modified=job.updated_at),
    )


_OF_JOBS: tuple[Kind, ...] = ("jobs", "job", "events", "checkpoints", "checkpoint", "result")
_WORDS: dict[Kind, tuple[str, str, str | None]] = {
    "expert": ("Expert", "What an expert is told, and what it may use.", JSON),
    "jobs": (
        "Jobs",
        "Jobs, newest first: `offset` is how many to leave out, `limit` how many to return.",
        JSON,
    ),
    "job": ("Job", "How a job stands, and the tree of its runs.", JSON),
    "events": (
        "Events of a job",
        "Everything that happened, one event a line; `after` is how many lines to skip, to go on.",
        JSON_LINES,
    ),
    "checkpoints": (
        "Checkpoints of a job",
        "The points from which a job can be continued; `after` and `limit` as for events.",
        JSON,
    ),
    "checkpoint": (
        "Checkpoint",
        "The whole state of a run at one point; `after` is how many messages to leave out.",
        JSON,
    ),
    "result": ("Result of a job", "The whole text of the answer, however long.", None),
}
"""Title, description and form, by kind."""


def _template(kind: Kind) -> ResourceTemplate:
    title, description, mime_type = _WORDS[kind]
    return ResourceTemplate(
        name=kind,
        title=title,
        uri_template=SHAPES[kind].template,
        description=description,
        mime_type=mime_type,
    )
