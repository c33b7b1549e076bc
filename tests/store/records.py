"""Records of any model, filled with the strangest content that their types allow."""

import base64
import types
import typing
from typing import Annotated, Any, Literal, cast

from hypothesis import strategies as st
from pydantic import BaseModel

from perstack.store.event_codec import MAX_INLINE_CHARACTERS

Strategy = st.SearchStrategy[Any]


def repeated(seed: str) -> str:
    return seed * MAX_INLINE_CHARACTERS


def encoded(seed: bytes) -> str:
    return base64.b64encode(seed * MAX_INLINE_CHARACTERS).decode()


# Half surrogate pairs included: models write them, and Python's JSON reads them.
SHORT = st.text(st.characters(exclude_categories=()), max_size=20)
TEXT: Strategy = st.one_of(
    SHORT,
    SHORT,
    st.sampled_from(["$blob", "textPart", "a" * 64]),
    st.builds(repeated, st.text(st.characters(exclude_categories=()), min_size=1, max_size=2)),
    st.builds(encoded, st.binary(min_size=1, max_size=3)),
)
NAMES = SHORT | st.sampled_from(["$blob", "type", "text", "data", "base64", "args"])


def within(inner: Strategy) -> Strategy:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3))


LEAVES: Strategy = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT
)
JSON: Strategy = st.recursive(LEAVES, within, max_leaves=6)
ARGUMENTS: Strategy = st.dictionaries(NAMES, JSON, max_size=3)
LEAF: dict[Any, Strategy] = {
    str: TEXT,
    int: st.integers(0, 2**60),
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    type(None): st.none(),
}


def records(annotation: Any) -> Strategy:
    """Values of an annotation as the events use them."""
    if annotation in LEAF:
        return LEAF[annotation]
    if isinstance(annotation, type(BaseModel)):
        return _models(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return records(arguments[0])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in {types.UnionType, typing.Union}:
        return st.one_of([records(argument) for argument in arguments])
    if origin is tuple:
        return st.lists(records(arguments[0]), max_size=2).map(_as_tuple)
    if origin is dict:
        return ARGUMENTS
    raise NotImplementedError(annotation)


def _models(model: type[BaseModel]) -> Strategy:
    fields = {name: records(field.annotation) for name, field in model.model_fields.items()}
    if model.__name__ == "Stamp":
        fields |= dict.fromkeys(("job_id", "run_id", "expert_key"), st.text("abc-@/", min_size=1))
    return st.fixed_dictionaries(fields).map(model.model_validate)


def _as_tuple(values: object) -> tuple[object, ...]:
    return tuple(cast("list[object]", values))
