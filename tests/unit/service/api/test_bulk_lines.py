"""One line in, one line out: what comes back of an id, and how little a wrong line may cost and say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.bulk.bulk_lines import FIELDS, read
from service.api.bulk.line_reader import LINE_BYTES, Line
from service.settings import Settings

SETTINGS = Settings()
LONGEST_ERROR = 4096  # bytes, without the id


def answered(content: bytes, **line):
    """Return the pair and the raw answer line of a line."""
    answer, pair = read(Line(1, content, **line), SETTINGS)
    if pair is not None:
        answer.fields = {"score": 0.5}
    return pair, answer.encoded()


def row(identity: str) -> bytes:
    return f'{{"query":"a","candidate":"b","id":{identity}}}'.encode()


SENT = ["true", "false", "null", "1", "1.0", "1.50", "-0", "-0.0", "1e400", "1E+2", "9" * 5000, '"1"', '""', '"a b"']


@pytest.mark.parametrize("identity", SENT, ids=lambda identity: identity[:20])
def test_id_comes_back_as_it_was_sent(identity):
    pair, answer = answered(row(identity))
    assert pair is not None
    assert answer == f'{{"line":1,"id":{identity},"score":0.5}}\n'.encode()


@given(st.text())
def test_id_of_any_text_comes_back_as_the_same_text(text):
    _, answer = answered(row(json.dumps(text)))
    assert answer.count(b"\n") == 1
    assert json.loads(answer)["id"] == text


def test_line_without_an_id_is_answered_without_one():
    _, answer = answered(b'{"query":"a","candidate":"b"}')
    assert json.loads(answer) == {"line": 1, "score": 0.5}


@pytest.mark.parametrize("identity", ["{}", "[1]", '{"a":1}'])
def test_id_that_is_not_a_single_value_is_refused(identity):
    pair, answer = answered(row(identity))
    assert pair is None
    assert json.loads(answer)["detail"] == "id: expected a string, a number, true, false or null"


@pytest.mark.parametrize("identity", ["NaN", "Infinity", "-Infinity", "01", "tru", "'a'"])
def test_id_that_is_not_json_is_refused(identity):
    assert "Invalid JSON" in json.loads(answered(row(identity))[1])["detail"]


def test_a_wrong_line_has_its_id_too():
    _, answer = answered(b'{"id":7.0,"query":" ","candidate":"b"}')
    assert answer.startswith(b'{"line":1,"id":7.0,"status":422,')


@pytest.mark.parametrize(
    "content",
    [
        b"{" + b",".join(b'"%d":1' % number for number in range(6000)) + b"}",
        ("{" + ",".join(f'"{chr(0x1F600 + number)}":1' for number in range(3000)) + "}").encode(),
        b'{"' + b"k" * 60_000 + b'":1}',
        b'{"query":"' + b"x" * 60_000 + b'","candidate":"b"}',
        b'{"query":["' + b"x" * 60_000 + b'"],"candidate":"b"}',
        b'{"query":"a","candidate":"b","language":"' + b"x" * 60_000 + b'!"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"\xff" * 60_000,
        b"9" * 60_000,
        b'"' + b"x" * 60_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_error_of_a_wrong_line_is_short_whatever_the_line(content):
    assert len(content) < LINE_BYTES
    pair, answer = answered(content)
    assert pair is None or pair.language == "unk"
    assert len(answer) <= LONGEST_ERROR


def test_unknown_keys_are_named_once_and_counted():
    _, answer = answered(b'{"langage":"en","a":1,"b":2,"query":"a","candidate":"b"}')
    expected = f"langage: unknown key (and 2 other unknown keys); expected {', '.join(FIELDS)}"
    assert json.loads(answer)["detail"] == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_answered_by_one_line(content):
    _, answer = answered(content)
    assert (answer.count(b"\n"), answer[-1:]) == (1, b"\n")
    json.loads(answer)


def test_numbers_are_not_text():
    for field in ("query", "candidate", "language"):
        line = {"query": "a", "candidate": "b", field: 5}
        assert json.loads(answered(json.dumps(line).encode())[1])["detail"].startswith(f"{field}: ")


def test_line_over_the_limit_says_so():
    assert "expected at most 65536 bytes" in json.loads(answered(b'{"query":', too_long=True)[1])["detail"]
