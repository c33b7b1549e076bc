"""Values that must not be shown: what a skill was given, taken out of what it says."""

from collections.abc import Mapping

from perstack.core.redaction import is_secret_name

MIN_SECRET_CHARACTERS = 4


class SkillRedactor:
    """Replaces the values that one skill was given by the names of their variables.

    Args:
        values: The variables that a skill was given by `requiredEnv`.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._everything = tuple(_pieces(values))
        self._secrets = tuple(
            _pieces({name: value for name, value in values.items() if is_secret_name(name)})
        )

    def diagnostics(self, text: str) -> str:
        """Text for people, with every value taken out: stderr lines, errors."""
        return _replace(text, self._everything)

    def result(self, text: str) -> str:
        """Text for the model, with the values of variables that are named like a secret taken out.

        A folder or a region is also passed by `requiredEnv`; results that name it must stay usable.
        """
        return _replace(text, self._secrets)


def _pieces(values: Mapping[str, str]) -> list[tuple[str, str]]:
    pieces = {
        piece: f"[{name}]"
        for name, value in values.items()
        # A key file's value spans lines, and what quotes it often does so line by line.
        for piece in (value, *value.splitlines())
        if len(piece.strip()) >= MIN_SECRET_CHARACTERS
    }
    return sorted(pieces.items(), key=lambda item: len(item[0]), reverse=True)


def _replace(text: str, pieces: tuple[tuple[str, str], ...]) -> str:
    for value, name in pieces:
        if value in text:
            text = text.replace(value, name)
    return text
