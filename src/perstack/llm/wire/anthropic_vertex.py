"""Anthropic's Messages on Vertex AI: the address names the model, and the body the version."""

from urllib.parse import quote

from perstack.llm.providers.connection import ProviderConnection
from perstack.llm.wire.anthropic_messages import AnthropicMessages
from perstack.llm.wire.reply import JsonObject
from perstack.runtime.ports import GenerationRequest

VERSION = "vertex-2023-10-16"


class AnthropicVertex(AnthropicMessages):
    """Satisfies `WireFormat`."""

    def url(self, connection: ProviderConnection, *, is_stream: bool) -> str:
        publisher = connection.base_url.replace("/publishers/google", "/publishers/anthropic")
        method = "streamRawPredict" if is_stream else "rawPredict"
        return f"{publisher}/models/{quote(connection.model, safe='@')}:{method}"

    def body(
        self, request: GenerationRequest, connection: ProviderConnection, *, is_stream: bool
    ) -> JsonObject:
        body = super().body(request, connection, is_stream=is_stream)
        del body["model"]
        return {"anthropic_version": VERSION, **body}
