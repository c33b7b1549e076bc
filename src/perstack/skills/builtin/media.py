"""`readImageFile` and `readPdfFile`.

The content goes into the result here, where the path was checked, and not later by the name of the
tool: otherwise a server with a tool of that name could read any file of the machine.
"""

import base64
import os
from pathlib import PurePosixPath

from perstack.core.media import MEBIBYTE, PDF_MIME_TYPE, image_type, is_pdf
from perstack.core.messages import FileInlinePart, ImageInlinePart
from perstack.skills.builtin.failures import ToolFailure
from perstack.skills.builtin.tool import (
    PathArguments,
    ToolOutput,
    json_part,
    path_parameter,
    workspace_tool,
)
from perstack.skills.builtin.workspace import Workspace, WorkspaceEntry

MAX_IMAGE_MEBIBYTES = 15
MAX_PDF_MEBIBYTES = 30
IMAGE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})


def read_image_file(workspace: Workspace, args: PathArguments) -> ToolOutput:
    with workspace.entry(args.path, follow=True) as entry:
        if PurePosixPath(entry.name).suffix.lower() not in IMAGE_EXTENSIONS:
            raise ToolFailure(
                "Unsupported",
                f"File {args.path} is not supported. Images are .png, .jpg, .jpeg, .gif and .webp.",
            )
        data = _read_limited(entry, "Image", MAX_IMAGE_MEBIBYTES)
    mime_type = image_type(data)
    if mime_type is None:
        raise ToolFailure(
            "Unsupported", f"File {args.path} does not hold an image, whatever its name says."
        )
    facts = {"path": entry.path, "mimeType": mime_type, "size": len(data)}
    return (
        json_part(facts),
        ImageInlinePart(encoded_data=_encode_base64(data), mime_type=mime_type),
    )


def read_pdf_file(workspace: Workspace, args: PathArguments) -> ToolOutput:
    with workspace.entry(args.path, follow=True) as entry:
        if PurePosixPath(entry.name).suffix.lower() != ".pdf":
            raise ToolFailure("Unsupported", f"File {args.path} is not a PDF file.")
        data = _read_limited(entry, "PDF", MAX_PDF_MEBIBYTES)
    if not is_pdf(data):
        raise ToolFailure(
            "Unsupported", f"File {args.path} does not hold a PDF, whatever its name says."
        )
    facts = {"path": entry.path, "mimeType": PDF_MIME_TYPE, "size": len(data)}
    return (
        json_part(facts),
        FileInlinePart(encoded_data=_encode_base64(data), mime_type=PDF_MIME_TYPE),
    )


def _read_limited(entry: WorkspaceEntry, kind: str, max_mebibytes: int) -> bytes:
    with entry.open(os.O_RDONLY) as handle, os.fdopen(handle, "rb", closefd=False) as file:
        size = os.fstat(handle).st_size
        if size > max_mebibytes * MEBIBYTE:
            raise ToolFailure(
                "TooLarge",
                f"{kind} file too large ({size / MEBIBYTE:.1f}MB). "
                f"Maximum supported size is {max_mebibytes}MB.",
            )
        return file.read(max_mebibytes * MEBIBYTE)


def _encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


TOOLS = (
    workspace_tool(
        read_image_file,
        PathArguments,
        "readImageFile",
        "Look at an image of the workspace: PNG, JPEG, GIF or WebP, "
        f"at most {MAX_IMAGE_MEBIBYTES} MB.",
        {"path": path_parameter("The image")},
        effect="reads",
    ),
    workspace_tool(
        read_pdf_file,
        PathArguments,
        "readPdfFile",
        f"Look at a PDF of the workspace, at most {MAX_PDF_MEBIBYTES} MB.",
        {"path": path_parameter("The PDF")},
        effect="reads",
    ),
)
