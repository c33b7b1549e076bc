"""Files that the tools of a provider made, and that are fetched from where it keeps them."""

import base64
import json

import pytest

from perstack.core.messages import FileInlinePart, ImageInlinePart
from perstack.definition.model import Expert, ProviderName
from perstack.llm.model_factory import OpenModel
from perstack.llm.wire.files import MAX_FILE_BYTES, MAX_FILES
from perstack.runtime.ports import Generation
from tests.llm.conversation import ask_for
from tests.llm.endpoint import MODELS, provider
from tests.llm.provider_replies import JsonObject, claude, gpt
from tests.model_server import ModelServer, Verbatim, model_server

pytestmark = [pytest.mark.anyio, pytest.mark.direct_only]

PDF = b"%PDF-1.7"


def writes(*file_ids: str) -> Verbatim:
    """A reply of Claude whose code has written files."""
    outputs = [{"type": "bash_code_execution_output", "file_id": each} for each in file_ids]
    call = {"type": "server_tool_use", "id": "srv1", "name": "bash_code_execution"}
    result = {"type": "bash_code_execution_result", "stdout": "", "content": outputs}
    return claude(
        {**call, "input": {"command": "make"}},
        {"type": "bash_code_execution_tool_result", "tool_use_id": "srv1", "content": result},
        {"type": "text", "text": "Written."},
    )


def names(*files: JsonObject) -> Verbatim:
    """A reply of GPT whose text names files of a container."""
    annotations = [{"type": "container_file_citation", "container_id": "c/1"} | f for f in files]
    part = {"type": "output_text", "text": "Written.", "annotations": annotations}
    call = {"type": "code_interpreter_call", "id": "ci1", "container_id": "c/1", "code": "make"}
    return gpt(call, {"type": "message", "id": "m1", "role": "assistant", "content": [part]})


def document(**facts: object) -> tuple[int, bytes]:
    return 200, json.dumps(facts).encode()


async def generated(
    model: OpenModel, name: ProviderName, server: ModelServer, tool: str
) -> Generation:
    expert = Expert.model_validate({"key": "a", "instruction": "Write.", "providerTools": [tool]})
    return await model.generate(ask_for(expert, provider(server, name), model=MODELS[name]), None)


async def test_files_that_claude_wrote_are_kept_with_its_reply(model: OpenModel) -> None:
    async with model_server([writes("file_1", "file_2")]) as server:
        server.side_answers = {
            "/v1/files/file_1": document(filename="a.pdf", mime_type="application/pdf"),
            "/v1/files/file_1/content": (200, PDF),
            "/v1/files/file_2": document(filename="a.png"),
            "/v1/files/file_2/content": (200, b"png"),
        }
        reply = await generated(model, "anthropic", server, "codeExecution")

    assert reply.media == (
        FileInlinePart(encoded_data=base64.b64encode(PDF).decode(), mime_type="application/pdf"),
        ImageInlinePart(encoded_data=base64.b64encode(b"png").decode(), mime_type="image/png"),
    )
    assert reply.provider_part is not None
    assert "missingFiles" not in reply.provider_part.content


@pytest.mark.parametrize(
    ("name", "folder", "query"),
    [
        ("openai", "/v1/containers/c%2F1/files", ""),
        ("azure-openai", "/openai/v1/containers/c%2F1/files", "?api-version=v1"),
    ],
)
async def test_files_that_gpt_names_are_kept_with_its_reply(
    model: OpenModel, name: ProviderName, folder: str, query: str
) -> None:
    named: JsonObject = {"file_id": "f1", "filename": "a.csv", "start_index": 0, "end_index": 7}
    async with model_server([names(named, named, {"file_id": "f2"})]) as server:
        server.side_answers = {
            f"{folder}/f1/content{query}": (200, b"a,b"),
            f"{folder}/f2/content{query}": (200, b"?"),
        }
        reply = await generated(model, name, server, "codeInterpreter")

    assert [(part.mime_type, base64.b64decode(part.encoded_data)) for part in reply.media] == [
        ("text/csv", b"a,b"),
        ("application/octet-stream", b"?"),
    ]
    assert reply.citations[0].title == "a.csv"


async def test_a_file_that_cannot_be_fetched_costs_no_reply(model: OpenModel) -> None:
    async with model_server([writes("gone", "odd", "large", "good")]) as server:
        server.side_answers = {
            "/v1/files/gone": (404, b"{}"),
            "/v1/files/odd": (200, b"no JSON"),
            "/v1/files/large": document(filename="a.pdf"),
            "/v1/files/large/content": (200, b"x" * (MAX_FILE_BYTES + 1)),
            "/v1/files/good": document(filename="a.pdf"),
            "/v1/files/good/content": (200, PDF),
        }
        reply = await generated(model, "anthropic", server, "codeExecution")

    assert reply.text == "Written."
    assert len(reply.media) == 1
    assert reply.provider_part is not None
    missing = reply.provider_part.content["missingFiles"]
    assert (missing["gone"], set(missing)) == ("status 404", {"gone", "odd", "large"})
    assert "10485760 bytes" in missing["large"]


async def test_only_so_many_files_are_fetched(model: OpenModel) -> None:
    ids = [f"file_{number}" for number in range(MAX_FILES + 1)]
    async with model_server([writes(*ids)]) as server:
        reply = await generated(model, "anthropic", server, "codeExecution")

    assert len(reply.media) == MAX_FILES
    assert reply.provider_part is not None
    assert list(reply.provider_part.content["missingFiles"]) == [ids[-1]]
