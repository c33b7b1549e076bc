"""Takes OpenTelemetry settings out of the process's environment with which its API cannot load.

The API reads them while it is imported, and raises; telemetry must never keep a command from
running. Imports nothing of OpenTelemetry.
"""

from collections.abc import MutableMapping
from importlib.metadata import entry_points

PROPAGATORS_VARIABLE = "OTEL_PROPAGATORS"
_BUILT_IN_PROPAGATORS = frozenset({"tracecontext", "baggage", "none"})


def remove_unusable_settings(environment: MutableMapping[str, str]) -> tuple[str, ...]:
    """Remove what cannot be used, and say so, one line a variable."""
    problems: list[str] = []
    propagators = environment.get(PROPAGATORS_VARIABLE, "").strip()
    if propagators:
        names = [name.strip() for name in propagators.split(",")]
        unknown = [name for name in names if name not in _BUILT_IN_PROPAGATORS]
        if unknown:
            installed = {entry.name for entry in entry_points(group="opentelemetry_propagator")}
            unknown = [name for name in unknown if name not in installed]
        if unknown:
            known = [name for name in names if name not in unknown]
            environment[PROPAGATORS_VARIABLE] = ",".join(known) or "tracecontext,baggage"
            problems.append(
                f"{PROPAGATORS_VARIABLE} names {', '.join(unknown)}, which is not installed;"
                f" using {environment[PROPAGATORS_VARIABLE]}"
            )
    for name in [name for name in environment if _is_limit(name)]:
        value = environment[name].strip()
        if value and not value.isdecimal():
            del environment[name]
            problems.append(f"{name} must be a number that is 0 or more; using the default")
    return tuple(problems)


def _is_limit(name: str) -> bool:
    return name.startswith("OTEL_") and name.endswith("_LIMIT")
