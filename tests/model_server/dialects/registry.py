"""Which wire format serves a path."""

from tests.model_server.dialects.anthropic import ANTHROPIC
from tests.model_server.dialects.bedrock import BEDROCK
from tests.model_server.dialects.dialect import Dialect
from tests.model_server.dialects.gemini import GEMINI
from tests.model_server.dialects.ollama import OLLAMA
from tests.model_server.dialects.openai_chat import OPENAI_CHAT
from tests.model_server.dialects.openai_responses_stream import OPENAI_RESPONSES

DIALECTS = (OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, BEDROCK, GEMINI, OLLAMA)


def dialect_for(path: str) -> Dialect | None:
    """The format of a path without its query, or None where no model is called."""
    return next((dialect for dialect in DIALECTS if dialect.path.search(path)), None)
