"""What is left of a result that is too long."""

import re

from hypothesis import given
from hypothesis import strategies as st

from perstack.core.long_results import is_shortened, shorten
from perstack.core.messages import ToolCall, text_result

NOTE = re.compile(
    r"\n\[… ([\d,]+) of ([\d,]+) characters left out here\. .*; they begin at offset (\d+)\. …\]\n"
)


def repeated(piece: str, times: int, end: str) -> str:
    return piece * times + end


TEXTS = st.builds(
    repeated,
    st.text(st.characters(exclude_categories=()), min_size=1, max_size=300),
    st.integers(1, 200),
    st.text(max_size=50),
)


@given(TEXTS, st.integers(1_000, 5_000), st.sampled_from(["c1", "call_" + "x" * 200]))
def test_the_two_ends_and_what_the_note_names_are_the_whole(
    text: str, limit: int, call_id: str
) -> None:
    result = text_result(ToolCall(id=call_id, skill_name="s", tool_name="t"), text)

    shortened = shorten(result, limit, is_readable=True)

    assert len(shortened.text) <= limit
    assert is_shortened(shortened.text) == (len(text) > limit)
    if len(text) > limit:
        note = NOTE.search(shortened.text)
        assert note is not None
        count, total, offset = (int(number.replace(",", "")) for number in note.groups())
        head, tail = shortened.text[: note.start()], shortened.text[note.end() :]
        assert (total, offset) == (len(text), len(head))
        assert head + text[offset : offset + count] + tail == text
        assert shorten(shortened, limit, is_readable=True) is shortened
