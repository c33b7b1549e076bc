"""Which experts of a file with errors are sound, and can be used all the same."""

from collections.abc import Mapping, Sequence

from perstack.definition.diagnostics import Diagnostic
from perstack.definition.model import Expert

Faults = dict[str, list[Diagnostic]]


def find_faults(experts: Mapping[str, Expert], errors: Sequence[Diagnostic]) -> Faults | None:
    """What is wrong with each expert that cannot be used, by its key.

    An expert that delegates to one with a fault has one too.

    Args:
        experts: Those that are valid by themselves.
        errors: All errors of the file.

    Returns:
        `None` if the whole file cannot be used: an error is about more than one expert, or no
        expert is sound.
    """
    faults: Faults = {}
    for error in errors:
        match error.key_path:
            case ("experts", str(key), *_):
                faults.setdefault(key, []).append(error)
            case _:
                return None
    while dependents := _find_dependents(experts, faults):
        faults |= dependents
    return faults if experts.keys() - faults.keys() else None


def _find_dependents(experts: Mapping[str, Expert], faults: Faults) -> Faults:
    return {
        key: [_dependency_fault(key, *faulty)]
        for key, expert in experts.items()
        if key not in faults
        and (faulty := next(((i, d) for i, d in enumerate(expert.delegates) if d in faults), None))
    }


def _dependency_fault(key: str, index: int, delegate: str) -> Diagnostic:
    reason = f"{delegate!r} cannot be used"
    return Diagnostic(reason, "repair it first", key_path=("experts", key, "delegates", index))
