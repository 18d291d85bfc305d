"""Text from outside as lines that a file can hold: reversible for names, and one short line for messages."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crp_kit.escapes import escaped, is_storable, is_writable, one_line, single_line

QUICK = settings(max_examples=300, derandomize=True, deadline=None)
ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")
ODD = st.text(st.sampled_from("aé\\\\xu0adb9n\x00\n\r\t\x1b\x7f\x85\u2028\udce9\ud800 漢\u200d"), max_size=12)


def original(text: str) -> str:
    """The inverse of `escaped`: a text with no escape in it stands for itself."""
    return ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), text)


@QUICK
@given(text=st.one_of(ODD, st.text(st.characters(exclude_categories=()))))
def test_every_name_comes_back_from_its_escaped_form(text: str) -> None:
    assert original(escaped(text)) == original(escaped(text, free=True)) == text
    assert is_writable(escaped(text))
    assert is_storable(escaped(text, free=True))
    escaped(text).encode("utf-8")


@pytest.mark.parametrize(
    "text", ["", "red fox", "ünï code", "漢字\u3000", r"$\alpha$", r"a\b", "C:\\data\\x", "👨\u200d👩", " a ", "a/b"]
)
def test_names_of_people_stay_as_they_are(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("caf\udce9", r"caf\udce9"),
        (r"caf\udce9", r"caf\\udce9"),
        ("a\0", r"a\x00"),
        ("a\nb", r"a\x0ab"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\\\n", r"\\\x0a"),
        ("a\u2028", r"a\u2028"),
    ],
)
def test_what_a_file_cannot_hold_is_spelt_out(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_free_text_keeps_its_lines() -> None:
    assert escaped("a\n\tb\u2028", free=True) == "a\n\tb\u2028"
    assert escaped("a\n\0", free=True) == r"a\x0a\x00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\r\n  three\n", "one two three"),
        ("\n\n", ""),
        ("bell\a and caf\udce9", r"bell\x07 and caf\udce9"),
        (r"C:\new", r"C:\new"),
        ("x" * 300, "x" * 300),
        ("x" * 10_000, "x" * 298 + " …"),
    ],
)
def test_a_message_is_one_short_line(text: str, expected: str) -> None:
    assert one_line(text) == expected
    assert single_line(text)[:298] == expected[:298]
