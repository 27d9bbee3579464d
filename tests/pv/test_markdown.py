import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv import markdown


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("a | b", r"a \| b"),
        ("`code`", r"\`code\`"),
        ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
        ("one\ntwo\r\n", r"one\\ntwo\\r\\n"),
        ("@team #12", "@<!-- -->team #<!-- -->12"),
        ("[x](y) *b* _i_ ~s~ $m$", r"\[x\](y) \*b\* \_i\_ \~s\~ \$m\$"),
        ("see http://x", "see http:<!-- -->//x"),
        ("FALSIFY-X-001: 9e-3", "FALSIFY-X-001: 9e-3"),
    ],
)
def test_text_has_no_effect(words, shown):
    assert markdown.text(words) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("FALSIFY-1", "`FALSIFY-1`"),
        ("a`b", r"a\`b"),
        ("a|b", r"a\|b"),
        ("a\nb", r"a\\nb"),
        ("", "(none)"),
        (" a", " a"),
    ],
)
def test_a_name_is_code_where_that_is_safe(name, shown):
    assert markdown.code(name) == shown


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_a_table_has_as_many_cells_as_headings_whatever_stands_in_it(cells):
    lines = markdown.table(["h"] * len(cells), [list(map(markdown.text, cells)), list(map(markdown.code, cells))])
    assert len(lines) == 4
    for line in lines:
        assert "\n" not in line
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == len(cells) + 1
