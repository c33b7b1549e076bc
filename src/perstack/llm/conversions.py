"""What values become for a provider, kept as long as the values are."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar
from weakref import ref

from perstack.core.messages import Message
from perstack.llm.providers.profile import ProviderProfile

ChatMessage = dict[str, Any]
Convert = Callable[[Message, ProviderProfile], Sequence[ChatMessage]]

Source = TypeVar("Source")
Context = TypeVar("Context")
Result = TypeVar("Result")


class Conversions(Generic[Source, Context, Result]):
    """Converts each value once, because each generation repeats the whole conversation.

    What is returned must not be changed, and must not hold the value. Of a value that is used in
    several contexts in turn, such as the profiles of two providers, the newest conversion is kept.
    """

    def __init__(self, convert: Callable[[Source, Context], Result]) -> None:
        self._convert = convert
        self._by_id: dict[int, tuple[ref[Source], Context, Result]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __call__(self, source: Source, context: Context) -> Result:
        key = id(source)
        known = self._by_id.get(key)
        if known is not None and (known[1] is context or known[1] == context):
            return known[2]
        # An id is free for another value when this one is gone.
        reference = ref(source, lambda _: self._by_id.pop(key, None))
        result = self._convert(source, context)
        self._by_id[key] = (reference, context, result)
        return result
