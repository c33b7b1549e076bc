"""Text that comes from outside and need not be valid Unicode."""


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON may contain but UTF-8 cannot encode, by `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")
