import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pv.excerpt import WIDTH, Sources, excerpt, printable
from pv.findings import Finding


def shown(line: str, column: int, end: int = 0, number: int = 1) -> list[str]:
    text = "\n" * (number - 1) + line
    return excerpt(Finding("R", "error", "x", number, column, "m", "", end), Sources({"x": text.encode()}))


@pytest.mark.parametrize(
    ("line", "column", "end", "wanted"),
    [
        ("  key: value", 3, 13, ["  1 |   key: value", "    |   ^^^^^^^^^^"]),
        ("  key: value", 8, 0, ["  1 |   key: value", "    |        ^"]),
        ("\tkey", 2, 5, ["  1 |     key", "    |     ^^^"]),
        ("名前: x", 5, 6, ["  1 | 名前: x", "    |       ^"]),
        ("名前: x", 1, 3, ["  1 | 名前: x", "    | ^^^^"]),
        ("e\u0301x", 3, 4, ["  1 | e\u0301x", "    |  ^"]),
        ("\x1b[2J: x", 1, 5, ["  1 | \\x1b[2J: x", "    | ^^^^^^^"]),
        ("", 1, 0, ["  1 |", "    | ^"]),
        ("ab", 3, 0, ["  1 | ab", "    |   ^"]),
        ("ab", 99, 120, ["  1 | ab", "    |   ^"]),
        ("ab", 2, 99, ["  1 | ab", "    |  ^"]),
    ],
)
def test_the_carets_stand_below_the_fault(line, column, end, wanted):
    assert shown(line, column, end) == wanted


def test_the_margin_is_as_wide_as_the_number_of_the_line():
    assert shown("ab", 1, 3, number=120) == ["  120 | ab", "      | ^^"]


def test_a_long_line_is_cut_on_both_sides_of_the_fault():
    source, carets = shown("a" * 5000 + "FAULT" + "b" * 5000, 5001, 5006)
    assert source == f"  1 | ...{'a' * 33}FAULT{'b' * 62}..."
    assert source[carets.index("^") : carets.rindex("^") + 1] == "FAULT"


def test_a_fault_longer_than_the_room_is_shown_in_part():
    source, carets = shown("a" * 10 + "F" * 5000, 11, 5011)
    assert len(source) == len("  1 | ...") + WIDTH
    assert carets == "    | " + " " * 10 + "^" * (WIDTH - 10)


@given(st.text(alphabet="a {名\t\x1b\u0301", min_size=1, max_size=WIDTH - 1), st.data())
def test_the_carets_are_as_wide_as_what_they_mark(line, data):
    first = data.draw(st.integers(0, len(line) - 1))
    last = data.draw(st.integers(first + 1, len(line)))
    source, carets = shown(line, first + 1, last + 1)
    before, marked, behind = (
        "".join("    " if char == "\t" else printable(char) for char in part)
        for part in (line[:first], line[first:last], line[last:])
    )
    assert source == f"  1 | {before}{marked}{behind}".rstrip()
    assert carets == "    | " + " " * columns(before) + "^" * max(columns(marked), 1)


def columns(text: str) -> int:
    return sum(map(cell_len, text))  # in a whole text, a mark at its beginning counts


@pytest.mark.parametrize("text", ["名前", "ｆull", "plain", "e\u0301"])
def test_widths_are_those_of_the_terminal(text):
    _, carets = shown(text, 1, len(text) + 1)
    assert carets.count("^") == cell_len(text)


def test_every_kind_of_line_end_counts_as_one():
    sources = Sources({"x": b"a\r\nb\rc\nd"})
    assert [sources.line("x", number) for number in range(6)] == [None, "a", "b", "c", "d", None]


def test_what_cannot_be_shown_is_left_out(tmp_path):
    finding = Finding("R", "error", str(tmp_path / "gone.yaml"), 1, 1, "m")
    assert excerpt(finding, Sources()) == []
    assert Sources({"x": "a".encode("utf-16")}).line("x", 1) is None
    assert Sources({"x": b"k\xe4se"}).line("x", 1) == "k\ufffdse"


def test_a_pipe_is_not_read_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    assert Sources().line(str(tmp_path / "pipe"), 1) is None


def test_a_byte_order_mark_takes_no_column():
    assert Sources({"x": "\ufeffkey: 1".encode()}).line("x", 1) == "key: 1"
