"""Icons: those that experts declare, and a generated one for every other.

A generated icon depends on the key of the expert only, and is small, because every list has it.
"""

import colorsys
import hashlib
import re
from base64 import b64encode
from functools import lru_cache

from mcp_types import Icon

from perstack.definition.model import Expert

_SVG_TEMPLATE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48">'
    '<rect width="48" height="48" rx="10" fill="{colour}"/>'
    '<text x="24" y="31" font-family="sans-serif" font-size="20" text-anchor="middle" '
    'fill="#fff">{letters}</text></svg>'
)
MIME_SVG = "image/svg+xml"


def icon_of(expert: Expert) -> Icon:
    declared = expert.tool.icon
    if declared is None:
        return generate_icon(expert.key)
    return Icon(src=declared, mime_type=_mime_type(declared))


@lru_cache(maxsize=1024)
def generate_icon(key: str) -> Icon:
    """The initials of `key` on a colour derived from it."""
    hue = hashlib.sha256(key.encode()).digest()[0] / 256
    # Dark enough for white letters in every hue.
    channels = colorsys.hls_to_rgb(hue, 0.36, 0.5)
    colour = "#" + "".join(f"{round(channel * 255):02x}" for channel in channels)
    drawing = _SVG_TEMPLATE.format(colour=colour, letters=_initials(key))
    data = b64encode(drawing.encode()).decode("ascii")
    return Icon(src=f"data:{MIME_SVG};base64,{data}", mime_type=MIME_SVG, sizes=["any"])


def _initials(key: str) -> str:
    # Delegates such as @reviewer/file and @reviewer/test differ in the last part only.
    words = re.findall(r"[a-z0-9]+", key.lower().rpartition("/")[2])
    letters = "".join(word[0] for word in words[:2]) if len(words) > 1 else "".join(words)[:2]
    return letters.upper()


def _mime_type(source: str) -> str | None:
    match = re.match(r"data:([\w.+/-]+)[;,]", source)
    return match[1] if match else None
