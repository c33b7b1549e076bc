"""Text that comes from outside and need not be valid Unicode."""


def replace_surrogates(text: str) -> str:
    """Rejoin split surrogate pairs, and replace lone surrogates, which UTF-8 lacks, by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
