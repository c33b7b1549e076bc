"""The ids of the tool calls of a conversation, collected as it grows."""

from collections.abc import Collection

from perstack.core.messages import ExpertMessage, Message


class CallIds:
    """Reads each message of one run once."""

    def __init__(self) -> None:
        self._messages: tuple[Message, ...] = ()
        self._ids: set[str] = set()

    def of(self, messages: tuple[Message, ...]) -> Collection[str]:
        """The ids of all calls in `messages`."""
        known = len(self._messages)
        if self._messages and (
            len(messages) < known or messages[known - 1] is not self._messages[-1]
        ):
            known = 0
            self._ids.clear()
        for message in messages[known:]:
            if isinstance(message, ExpertMessage):
                self._ids.update(call.tool_call_id for call in message.tool_calls)
        self._messages = messages
        return self._ids
