"""Finished spans as text, one line each, so that a whole trace can be compared at once."""

from collections.abc import Iterable

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from perstack.redaction import Redactor
from perstack.telemetry.content import ContentCapture
from perstack.telemetry.otel import OtelTelemetry, get_perstack_tracer

REQUIRED = {
    "invoke_agent": {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.conversation.id"},
    "chat": {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"},
    "execute_tool": {"gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.tool.call.id"},
    "skill.connect": {"perstack.skill.name", "perstack.skill.type"},
    "step": {"perstack.step.number"},
    "verify": {"perstack.verification.priority", "perstack.verification.passed"},
}
SHOWN = (
    "perstack.step.number",
    "perstack.step.finish",
    "perstack.run.status",
    "perstack.run.steps",
    "perstack.llm.attempt",
    "perstack.tool.kind",
    "gen_ai.usage.input_tokens",
    "error.type",
)


class Recorder:
    """A tracing whose finished spans stay in memory."""

    def __init__(self, *, secrets: tuple[str, ...] = (), content_limit: int | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        redactor = Redactor(secrets)
        self.tracing = OtelTelemetry(
            get_perstack_tracer(self.provider),
            redactor=redactor,
            capture=None if content_limit is None else ContentCapture(content_limit, redactor),
            environment={"SKILL_SECRET": "canary-of-the-skill"},
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def tree(self) -> str:
        return render(self.spans)


def render(spans: Iterable[ReadableSpan]) -> str:
    """The tree; fails on a span whose parent is missing and on a missing required attribute."""
    children: dict[int | None, list[ReadableSpan]] = {}
    known = {span.context.span_id for span in spans if span.context is not None}
    for span in spans:
        parent = None if span.parent is None else span.parent.span_id
        assert parent is None or parent in known, f"{span.name} is an orphan"
        missing = REQUIRED[span.name.split(" ")[0]] - set(span.attributes or {})
        assert not missing, f"{span.name} lacks {missing}"
        children.setdefault(parent, []).append(span)
    lines: list[str] = []
    _walk(children, None, "", lines)
    return "\n".join(lines)


def _walk(
    children: dict[int | None, list[ReadableSpan]],
    parent: int | None,
    indent: str,
    lines: list[str],
) -> None:
    for span in sorted(children.get(parent, []), key=lambda span: span.start_time or 0):
        assert span.context is not None
        lines.append(f"{indent}{_line(span)}")
        _walk(children, span.context.span_id, f"{indent}  ", lines)


def _line(span: ReadableSpan) -> str:
    attributes = span.attributes or {}
    shown = [f"{key.rpartition('.')[2]}={attributes[key]}" for key in SHOWN if key in attributes]
    status = [] if span.status.is_unset else [span.status.status_code.name]
    events = [f"!{event.name}" for event in span.events]
    return " ".join([span.kind.name, span.name, *shown, *status, *events])
