"""Every key of a TOML text has the place where it stands, however the text is written."""

import json
from collections.abc import Iterator
from typing import Any, cast

import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from perstack.definition.toml_positions import KeyPath, KeyPositions, Position

KEYS = st.sampled_from(["a", "b-c", "d_1", "42", "with space", "@x/y", 'quo"te', "ü", "dot.ted"])
TEXTS = st.sampled_from(
    [
        "",
        "plain",
        "[not] = a header",
        'say "hi"',
        "it's",
        "# no comment",
        "x\n[y]\nz = 1\n",
        "\\",
        "]}",
    ]
)
SCALARS = st.one_of(st.integers(-9, 9), st.booleans(), TEXTS, st.sampled_from([1.5, -0.25]))
INLINE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def key(draw: st.DrawFn, text: str) -> str:
    if text.isascii() and text.replace("-", "").replace("_", "").isalnum() and draw(st.booleans()):
        return text
    if '"' not in text and draw(st.booleans()):
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False)


def string(draw: st.DrawFn, text: str) -> str:
    if "'" not in text and "\\" not in text and draw(st.booleans()):
        return f"'''\n{text}'''"
    if "\\" not in text and '"' not in text and draw(st.booleans()):
        return f'"""\n{text}"""'
    return json.dumps(text, ensure_ascii=False)


def value(draw: st.DrawFn, item: object) -> str:
    if isinstance(item, str):
        return string(draw, item)
    if isinstance(item, list):
        listed = cast("list[object]", item)
        gap = draw(st.sampled_from(["", " ", "\n  ", " # [c] = '\n"]))
        return "[" + "".join(f"{gap}{value(draw, part)}{gap}," for part in listed) + gap + "]"
    if isinstance(item, dict):
        tabled = cast("dict[str, object]", item)
        pairs = [f"{key(draw, name)} = {value(draw, part)}" for name, part in tabled.items()]
        return "{ " + ", ".join(pairs) + " }"
    return json.dumps(item)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A TOML text of tables, dotted keys, arrays of tables, comments and values of all kinds."""
    lines: list[str] = []
    for name, item in draw(st.dictionaries(KEYS, INLINE, max_size=3)).items():
        lines.append(f"{key(draw, name)}={value(draw, item)} # {name}")
    for number in range(draw(st.integers(0, 4))):
        first, second = f"t{number}", draw(KEYS)
        pad = draw(st.sampled_from(["", " ", "\t"]))
        style = draw(st.sampled_from(["table", "nested", "dotted", "array"]))
        pairs = draw(st.dictionaries(KEYS, INLINE, min_size=1, max_size=3))
        body = [f"{pad}{key(draw, name)} = {value(draw, item)}" for name, item in pairs.items()]
        if style == "table":
            lines += ["", f"{pad}[{pad}{first}{pad}] # [{second}]", *body]
        elif style == "nested":
            lines += [f"[{first} . {key(draw, second)}]", *body]
        elif style == "dotted":
            dotted = [f"{key(draw, second)}{pad}.{pad}{line.lstrip()}" for line in body]
            lines += [f"[{first}]", *dotted]
        else:
            lines += [f"[[{first}]]", *body, f"[[{pad}{first}]]", *body, f"[{first}.sub]", *body]
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n# end"]))


def key_paths(item: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    if isinstance(item, dict):
        for name, inner in cast("dict[str, object]", item).items():
            yield (*path, name)
            yield from key_paths(inner, (*path, name))
    elif isinstance(item, list):
        for index, inner in enumerate(cast("list[object]", item)):
            yield (*path, index)
            yield from key_paths(inner, (*path, index))


def text_at(source: str, place: Position) -> str:
    return source.split("\n")[place.line - 1][place.column - 1 :]


@settings(max_examples=300, deadline=None)
@given(texts())
def test_every_key_stands_where_its_position_says(source: str) -> None:
    document: dict[str, Any] = tomli.loads(source)
    positions = KeyPositions(source)
    for path in key_paths(document):
        assert positions.has(path), f"{path} has no position in {source!r}"
        place = positions.find(path)
        assert place is not None
        name = path[-1]
        if isinstance(name, str):
            found = text_at(source, place)
            spellings = (name, f"'{name}'", json.dumps(name, ensure_ascii=False))
            assert found.startswith(spellings), f"{path} is not at {place}, where {found!r} is"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab.=[]{}\"'\\#\n ,1", max_size=60))
def test_text_that_is_no_toml_is_read_as_far_as_it_goes(source: str) -> None:
    KeyPositions(source).find(("a", 0, "b"))
