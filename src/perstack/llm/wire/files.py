"""Files that the tools of a provider made, fetched from where the provider keeps them."""

import base64
import mimetypes
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import anyio

from perstack.core.messages import ExpertMedia, FileInlinePart, ImageInlinePart
from perstack.llm.wire.format import ConnectionFailedError, ErrorStatusError, HttpResponse
from perstack.llm.wire.reply import (
    FileReference,
    InvalidReplyError,
    parse_payload,
    text_or_empty,
)

FILE_SECONDS = 60.0
MAX_FILES = 20
MAX_FILE_BYTES = 10 * 1024 * 1024
UNKNOWN_TYPE = "application/octet-stream"

Get = Callable[[str], AbstractAsyncContextManager[HttpResponse]]
"""Requests a path of the provider."""


async def fetch_files(
    references: Sequence[FileReference], get: Get
) -> tuple[list[ExpertMedia], dict[str, str]]:
    """The files of a reply, and by the ids of the others why they are missing."""
    files: list[ExpertMedia] = []
    missing: dict[str, str] = {}
    for index, reference in enumerate(references):
        if index >= MAX_FILES:
            missing[reference.id] = f"there are more than {MAX_FILES} files"
            continue
        try:
            with anyio.fail_after(FILE_SECONDS):
                files.append(await _fetch(reference, get))
        except TimeoutError:
            missing[reference.id] = "no answer in time"
        except ErrorStatusError as error:
            missing[reference.id] = f"status {error.response.status}"
        except (ConnectionFailedError, InvalidReplyError) as error:
            missing[reference.id] = str(error)
    return files, missing


async def _fetch(reference: FileReference, get: Get) -> ExpertMedia:
    name = reference.name
    mime_type = ""
    if reference.facts_path is not None:
        async with get(reference.facts_path) as response:
            facts = parse_payload(await _read(response))
        name = text_or_empty(facts.get("filename"))
        mime_type = text_or_empty(facts.get("mime_type"))
    mime_type = mime_type or mimetypes.guess_type(name)[0] or UNKNOWN_TYPE
    async with get(reference.path) as response:
        encoded = base64.b64encode(await _read(response)).decode("ascii")
    kind = ImageInlinePart if mime_type.startswith("image/") else FileInlinePart
    return kind(encoded_data=encoded, mime_type=mime_type)


async def _read(response: HttpResponse) -> bytes:
    content = bytearray()
    async for piece in response.pieces:
        content += piece
        if len(content) > MAX_FILE_BYTES:
            raise InvalidReplyError(f"it has more than {MAX_FILE_BYTES} bytes")
    return bytes(content)
