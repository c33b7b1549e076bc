"""Users in front of a client: they answer the forms that they are shown, in order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.client.session import ClientRequestContext
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

DECLINE = ElicitResult(action="decline")
CANCEL = ElicitResult(action="cancel")


def accept(**content: Any) -> ElicitResult:
    """A form that is filled in."""
    return ElicitResult(action="accept", content=content)


@dataclass
class User:
    """Answers what is asked; who has no answer left looks at the form for ever.

    Attributes:
        replies: What to do with each form.
        forms: What was shown.
        seen: Set when a form is shown that gets no answer.
        withdrawn: Set when such a form was taken away.
    """

    replies: Sequence[ElicitResult] = ()
    forms: list[ElicitRequestFormParams] = field(default_factory=list[ElicitRequestFormParams])
    seen: anyio.Event = field(default_factory=anyio.Event)
    withdrawn: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        self.forms.append(params)
        if len(self.forms) <= len(self.replies):
            return self.replies[len(self.forms) - 1]
        self.seen.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.withdrawn.set()
        raise AssertionError("nobody is there")

    @property
    def messages(self) -> list[str]:
        """What was asked."""
        return [form.message for form in self.forms]
