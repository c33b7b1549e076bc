"""What a validator of the models found wrong, precise enough to point at the key."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a table.

    Attributes:
        reason: What is wrong, without the value, which may be a secret.
        at: Path of the key within the validated table; empty for the table itself.
        suggestion: What to write instead.
    """

    reason: str
    at: tuple[str | int, ...] = ()
    suggestion: str | None = None


class FaultsError(ValueError):
    """All that a validator found, where pydantic would keep one error a validator."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(fault.reason for fault in faults))
        self.faults = faults


def raise_if_any(faults: list[Fault]) -> None:
    """Raise what was found.

    Raises:
        FaultsError: `faults` is not empty.
    """
    if faults:
        raise FaultsError(*faults)
