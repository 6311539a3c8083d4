"""What a JSON text would make, counted as it comes in."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.body.outline import Outline
from service.errors import MalformedJsonError, TooLargeError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text('ab"\\,[]{} é😀', max_size=8),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text('k"\\,{', max_size=4), inner, max_size=6),
    max_leaves=40,
)


def values_in(value):
    """Lists and objects, and one less than their members each."""
    if not isinstance(value, dict | list):
        return 0
    members = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(0, len(members) - 1) + sum(map(values_in, members))


def refused(most, pieces):
    outline = Outline(most)
    try:
        for piece in pieces:
            outline.add(piece)
    except TooLargeError:
        return True
    return False


@given(JSON, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_values_are_counted_whatever_pieces_they_come_in(value, cuts, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    count = values_in(value)
    texts = text.count(b'"')
    assert not refused(max(count, texts, len(text)), pieces)
    if count > 1 and texts <= 4 * (count - 1):
        assert refused(count - 1, pieces)


@pytest.mark.parametrize("text", [b"1," * 50, b'"",' * 50, b"[]" * 50, b'{"a":[' * 20, b'""' * 50, b"7" * 400])
def test_what_takes_more_than_it_may_is_refused(text):
    with pytest.raises(TooLargeError, match="expected at most"):
        Outline(10).add(text)


@pytest.mark.parametrize("text", [b'["' + b"[," * 1000 + b'"]', b'["' + b'\\"[,' * 1000 + b'"]', b" " * 100_000])
def test_texts_and_blanks_do_not_count_as_values(text):
    Outline(1).add(text)


def test_too_deep_nesting_is_malformed_json():
    with pytest.raises(MalformedJsonError, match="1000 levels"):
        Outline(10_000).add(b"[" * 1001)
