"""Glob patterns as regular expressions."""

import re

from perstack.text_search import SearchPattern

_TOKEN = re.compile(r"(?P<folders>\*\*/)|\*+|\?|\[(?P<class>[!^]?\]?[^\]]*)\]|.", re.DOTALL)
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$#&~-])")
_SPECIAL_IN_CLASS = re.compile(r"([\\&~^[\]])")
_IN_BRACES = {"{": "(?:", ",": "|", "}": ")"}


class Glob:
    """A glob pattern, compiled.

    `*` and `?` stand for characters of one name, `**/` for any folders, `[…]` for one of some
    characters, `{a,b}` for one of some texts. A pattern without `/` is for the name alone.

    Raises:
        ValueError: It is not valid; says why.
    """

    def __init__(self, pattern: str) -> None:
        pattern = pattern.removeprefix("./")
        self._is_for_name = "/" not in pattern
        self._pattern = SearchPattern(f"(?s)^{_translate(pattern)}$")

    def matches(self, path: str) -> bool:
        """Whether the path of a file, relative to where the search began, matches."""
        return self._pattern.matches(path.rpartition("/")[2] if self._is_for_name else path)


def _translate(pattern: str) -> str:
    has_braces = 0 < pattern.count("{") == pattern.count("}")
    depth, parts = 0, list[str]()
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if token["folders"]:
            parts.append("(?:.*/)?")
        elif text.startswith("*"):
            parts.append("[^/]*" if text == "*" else ".*")
        elif text == "?":
            parts.append("[^/]")
        elif token["class"]:
            parts.append(_translate_class(token["class"]))
        elif has_braces and (text in "{}" or (text == "," and depth)):
            depth += (text == "{") - (text == "}")
            parts.append(_IN_BRACES[text])
        else:
            parts.append(_SPECIAL.sub(r"\\\1", text))
    return "".join(parts)


def _translate_class(members: str) -> str:
    sign = "^" if members[0] in "!^" else ""
    escaped = _SPECIAL_IN_CLASS.sub(r"\\\1", members[len(sign) :])
    return f"[{sign}{escaped}]"
