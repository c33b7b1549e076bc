"""What messages become for a provider, kept as long as the messages are."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

from perstack.core.messages import Message
from perstack.llm.providers.profile import ProviderProfile

ChatMessage = dict[str, Any]
Convert = Callable[[Message, ProviderProfile], Sequence[ChatMessage]]


class Conversions:
    """Converts each message once, because each generation repeats the whole conversation.

    What is returned must not be changed. Of a message that is used with several profiles in turn,
    the newest conversion is kept.
    """

    def __init__(self, convert: Convert) -> None:
        self._convert = convert
        self._by_id: dict[int, tuple[ref[Message], ProviderProfile, Sequence[ChatMessage]]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __call__(self, message: Message, profile: ProviderProfile) -> Sequence[ChatMessage]:
        key = id(message)
        known = self._by_id.get(key)
        if known is not None and (known[1] is profile or known[1] == profile):
            return known[2]
        # An id is free for another message when this one is gone.
        reference = ref(message, lambda _: self._by_id.pop(key, None))
        chat = self._convert(message, profile)
        self._by_id[key] = (reference, profile, chat)
        return chat
