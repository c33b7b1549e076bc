"""Resource URIs, from `perstack://definitions` to one checkpoint of a job.

An id in a URI is looked up in the store and never becomes a path of a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from mcp_types import Annotations, Resource, ResourceTemplate

from perstack.definition.model import Expert
from perstack.errors import PerstackError
from perstack.server.summaries import MIME_JSON, MIME_JSON_LINES, JobEntry

SCHEME = "perstack://"
MAX_URI_CHARACTERS = 2048
MAX_QUERY_NUMBER = 10**9

ResourceKind = Literal[
    "definitions", "expert", "jobs", "job", "events", "checkpoints", "checkpoint", "result"
]


class InvalidResourceUriError(PerstackError):
    """The query part of a resource URI is not valid."""

    code = "resource.address"


@dataclass(frozen=True, slots=True)
class ResourceUri:
    """A parsed resource URI.

    Attributes:
        kind: The kind of resource.
        path_params: Variables of the path, such as `job_id`.
        query_params: Query parameters, such as `after`.
    """

    kind: ResourceKind
    path_params: Mapping[str, str] = field(default_factory=dict[str, str])
    query_params: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def text(self) -> str:
        """The URI as a string."""
        path_params = {name: quote(value, safe="@") for name, value in self.path_params.items()}
        path = "/".join(part.format(**path_params) for part in TEMPLATES[self.kind].segments)
        query = f"?{urlencode(self.query_params)}" if self.query_params else ""
        return f"{SCHEME}{path}{query}"


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """The form of the URIs of one kind.

    Attributes:
        segments: The parts of the path; variables in braces.
        title: For people.
        description: For models and people.
        query_params: Names of query parameters.
        mime_type: The MIME type of the documents; `None` if it differs between them.
    """

    segments: tuple[str, ...]
    title: str
    description: str
    query_params: tuple[str, ...] = ()
    mime_type: str | None = MIME_JSON

    @property
    def text(self) -> str:
        """The template in the syntax of RFC 6570."""
        query = f"{{?{','.join(self.query_params)}}}" if self.query_params else ""
        return f"{SCHEME}{'/'.join(self.segments)}{query}"

    @property
    def path_variables(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.segments if part.startswith("{"))

    def match(self, parts: tuple[str, ...]) -> dict[str, str] | None:
        """The variables of a path, or `None` if it does not match."""
        if len(parts) != len(self.segments):
            return None
        path_params: dict[str, str] = {}
        for expected, part in zip(self.segments, parts, strict=True):
            if expected.startswith("{"):
                path_params[expected[1:-1]] = part
            elif expected != part:
                return None
        return path_params


TEMPLATES: dict[ResourceKind, UriTemplate] = {
    "definitions": UriTemplate(
        ("definitions",),
        "Definitions",
        "The experts of this server and the settings they share.",
    ),
    "expert": UriTemplate(
        ("experts", "{name}"), "Expert", "What an expert is told, and what it may use."
    ),
    "jobs": UriTemplate(
        ("jobs",),
        "Jobs",
        "Jobs, newest first: `offset` is how many to leave out, `limit` how many to return.",
        ("offset", "limit"),
    ),
    "job": UriTemplate(("jobs", "{job_id}"), "Job", "How a job stands, and the tree of its runs."),
    "events": UriTemplate(
        ("jobs", "{job_id}", "events"),
        "Events of a job",
        "Everything that happened, one event a line; `after` is how many lines to skip, to go on.",
        ("after", "limit"),
        MIME_JSON_LINES,
    ),
    "checkpoints": UriTemplate(
        ("jobs", "{job_id}", "checkpoints"),
        "Checkpoints of a job",
        "The points from which a job can be continued; `after` and `limit` as for events.",
        ("after", "limit"),
    ),
    "checkpoint": UriTemplate(
        ("jobs", "{job_id}", "checkpoints", "{checkpoint_id}"),
        "Checkpoint",
        "The whole state of a run at one point; `after` is how many messages to leave out.",
        ("after",),
    ),
    "result": UriTemplate(
        ("jobs", "{job_id}", "result"),
        "Result of a job",
        "The whole text of the answer, however long.",
        mime_type=None,
    ),
}


def job_uri(kind: ResourceKind, job_id: str, **query_params: int) -> ResourceUri:
    """The URI of a job or of a part of it."""
    return ResourceUri(kind, {"job_id": job_id}, query_params)


def parse_uri(uri: str) -> ResourceUri | None:
    """Parse a URI; `None` if it names no kind of resource.

    Raises:
        InvalidResourceUriError: The query part is not valid.
    """
    if not uri.startswith(SCHEME) or len(uri) > MAX_URI_CHARACTERS or "#" in uri:
        return None
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    parts = tuple(unquote(part) for part in path.split("/"))
    if not all(part and part.isprintable() for part in parts):
        return None
    for kind, template in TEMPLATES.items():
        path_params = template.match(parts)
        if path_params is not None:
            return ResourceUri(kind, path_params, _parse_query(query, template))
    return None


def _parse_query(query: str, template: UriTemplate) -> dict[str, int]:
    query_params: dict[str, int] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in template.query_params:
            allowed = " and ".join(template.query_params) or "nothing"
            raise InvalidResourceUriError(
                f"{name[:40]!r} is not part of this address.",
                hint=f"After the question mark it takes {allowed}.",
            )
        # isascii, because str.isdigit accepts digits of other scripts.
        is_number = value.isascii() and value.isdigit() and int(value[:12]) <= MAX_QUERY_NUMBER
        if not is_number:
            raise InvalidResourceUriError(f"{name} is not a number from 0 to {MAX_QUERY_NUMBER}.")
        query_params[name] = int(value)
    return query_params


MAX_LISTED_JOBS = 20
"""Maximum number of jobs in `resources/list`."""

MAX_QUERY_IN_TITLE = 60


def definition_resources(experts: Mapping[str, Expert]) -> list[Resource]:
    """The resources that need no engine; `experts` by tool name."""
    definitions = Resource(
        name="definitions",
        title=TEMPLATES["definitions"].title,
        uri=ResourceUri("definitions").text,
        description=TEMPLATES["definitions"].description,
        mime_type=MIME_JSON,
    )
    return [
        definitions,
        *(
            Resource(
                name=f"expert {name}",
                title=expert.key,
                uri=ResourceUri("expert", {"name": name}).text,
                description=expert.description or f"The expert {expert.key}.",
                mime_type=MIME_JSON,
            )
            for name, expert in experts.items()
        ),
    ]


def job_resources(jobs: Sequence[JobEntry]) -> list[Resource]:
    """The list of jobs, and the jobs themselves."""
    job_list = Resource(
        name="jobs",
        title="Jobs",
        uri=ResourceUri("jobs").text,
        description="The jobs of the experts, newest first.",
        mime_type=MIME_JSON,
    )
    return [job_list, *map(_job_resource, jobs)]


def resource_templates(*, with_jobs: bool) -> list[ResourceTemplate]:
    return [
        ResourceTemplate(
            name=kind,
            title=template.title,
            uri_template=template.text,
            description=template.description,
            mime_type=template.mime_type,
        )
        for kind, template in TEMPLATES.items()
        if kind == "expert" or (with_jobs and kind != "definitions")
    ]


def _job_resource(job: JobEntry) -> Resource:
    query = " ".join(job.query.split())
    short = query if len(query) <= MAX_QUERY_IN_TITLE else f"{query[: MAX_QUERY_IN_TITLE - 1]}…"
    return Resource(
        name=f"job {job.job_id}",
        title=f"{job.expert}: {short}" if short else job.expert,
        uri=job_uri("job", job.job_id).text,
        description=f"A job of {job.expert}, {job.status}.",
        mime_type=MIME_JSON,
        annotations=Annotations(last_modified=job.updated_at),
    )
