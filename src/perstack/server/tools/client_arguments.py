"""Arguments that clients add to a call by themselves, which the model cannot leave out.

They are ignored where a tool does not declare them. Everything else that a tool does not declare
is refused, because it may be a misspelled argument, whose absence would change what is done.
"""

_CLIENT_ARGUMENTS = frozenset(
    {
        "action",
        "callid",
        "chatinput",
        "conversationid",
        "messageid",
        "meta",
        "metadata",
        "requestid",
        "securityrisk",
        "sessionid",
        "taskprogress",
        "threadid",
        "tool",
        "toolaction",
        "toolcalldescription",
        "toolcallid",
        "toolname",
        "toolsummary",
        "tooluseid",
        "usercontext",
        "userid",
        "waitforprevious",
        "waitforprevioustools",
    }
)
"""In lower case and without separators."""


def is_client_argument(name: str) -> bool:
    """Whether an undeclared argument is one that clients are known to add."""
    plain = name.replace("_", "").replace("-", "").lower()
    return name.startswith("_") or plain in _CLIENT_ARGUMENTS
