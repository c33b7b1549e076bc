"""What a provider takes of the tools that it is shown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLimits:
    """The limits of a provider.

    Attributes:
        max_tools: How many tools a request may have, those of the provider among them.
        max_description: The characters of a tool's description.
        property_names: Pattern of the names of properties.
        has_references: Whether schemas may refer to `$defs`; else what they refer to is put in.
        has_plain_top: Whether the top of a schema has `type`, `properties` and `required` only.
        has_plain_enums: Whether the choices of a value are texts that are not empty, and numbers.
    """

    max_tools: int | None = None
    max_description: int | None = None
    property_names: str = r"[a-zA-Z0-9_-]{1,64}"
    has_references: bool = True
    has_plain_top: bool = False
    has_plain_enums: bool = False


COMMON_LIMITS = ToolLimits()
"""What every provider takes that is not known to take more, or less."""
