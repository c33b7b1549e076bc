"""The models of an engine whose definitions change while jobs run."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from perstack.definition.model import Definitions
from perstack.runtime.ports import Model


class Models:
    """The model of the present definitions, and those of earlier ones that jobs still use.

    Args:
        open_one: Opens the model of a set of definitions.
        definitions: The first set.

    Attributes:
        present: The model for jobs that begin now.
    """

    def __init__(self, open_one: Callable[[Definitions], Model], definitions: Definitions) -> None:
        self._open_one = open_one
        self._wanted = _wanted(definitions)
        self.present = open_one(definitions)
        self._uses: Counter[Model] = Counter()

    async def renew(self, definitions: Definitions) -> Model:
        """The model for new definitions: the present one, unless they want another.

        Raises:
            ConfigError: They want one that cannot be opened. Nothing has changed then.
        """
        wanted = _wanted(definitions)
        if wanted == self._wanted:
            return self.present
        former, self.present = self.present, self._open_one(definitions)
        self._wanted = wanted
        if former is not self.present and not self._uses[former]:
            await former.aclose()
        return self.present

    @asynccontextmanager
    async def used(self, model: Model) -> AsyncGenerator[None]:
        """Keep a model open; an earlier one is closed when its last use ends."""
        self._uses[model] += 1
        try:
            yield
        finally:
            self._uses[model] -= 1
            if not self._uses[model]:
                del self._uses[model]
                if model is not self.present:
                    await model.aclose()

    async def aclose(self) -> None:
        """Close the present one."""
        await self.present.aclose()


def _wanted(definitions: Definitions) -> tuple[object, ...]:
    """All that decides which model is opened, and how."""
    return (
        definitions.provider,
        definitions.model,
        definitions.reasoning_budget,
        "reasoning_budget" in definitions.model_fields_set,
        definitions.timeout,
        definitions.path,
    )
