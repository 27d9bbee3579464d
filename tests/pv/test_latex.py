"""No TeX is asked for: `well_formed` holds what is written to what TeX asks."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pv import latex_signs
from pv.latex import escaped, formula

TABLES = (
    latex_signs.NAMES,
    latex_signs.FUNCTIONS,
    latex_signs.BIG,
    latex_signs.SIGNS,
    latex_signs.RAISED,
    latex_signs.IN_TEXT,
)
KNOWN = {word for table in TABLES for value in table.values() for word in re.findall(r"\\(?:[A-Za-z]+|.)", value)}
KNOWN |= {f"\\{name}" for name in latex_signs.ACCENTS.values()} | {
    f"\\{mark}" for mark in latex_signs.ACCENTS_IN_TEXT.values()
}
KNOWN |= {
    r"\text",
    r"\sqrt",
    r"\surd",
    r"\ensuremath",
    r"\ ",
    r"\,",
    r"\newline",
    r"\displaystyle",
    r"\prod",
    r"\times",
}
TAKES_TEXT = (r"\text", r"\operatorname")


def well_formed(latex, *, text=False):
    """Whether TeX will take it: ASCII, balanced braces, known commands, no bare special, no second script."""
    assert latex.isascii()
    assert latex.isprintable()
    modes, scripts, last = [text], [""], ""
    accents = [False]  # whether a brace opens for an accent: its scripts are those of the letter below it
    for token in re.findall(r"\\[A-Za-z]+|\\.|.", latex):
        if token == "{":
            modes.append((modes[-1] and last != r"\ensuremath") or last in TAKES_TEXT)
            if last not in ("^", "_"):
                scripts[-1] = ""
            scripts.append("")
            accents.append(last.removeprefix("\\") in latex_signs.ACCENTS.values())
            assert len(modes) < 50, "TeX nests no deeper than it has room for"
        elif token == "}":
            modes.pop()
            inner = scripts.pop()
            scripts[-1:] = [inner] if accents.pop() else scripts[-1:]
            assert modes, f"a brace too many: {latex}"
        elif token in ("^", "_"):
            assert not modes[-1], f"{token} in text: {latex}"
            assert token not in scripts[-1], f"a second {token}: {latex}"
            scripts[-1] += token
        elif token == "$":
            assert len(modes) == 1, f"a bare $: {latex}"
            modes, scripts = [not modes[0]], [""]
        elif token.startswith("\\"):
            assert token in KNOWN, f"{token} is not known: {latex}"
            scripts[-1] = ""
        else:
            assert token not in "%&#", f"a bare {token}: {latex}"
            assert modes[-1] or token not in "~", f"a bare {token}: {latex}"
            if token != " ":
                scripts[-1] = ""
        last = token if token != " " else last
    assert modes == [text], f"a brace or a $ too few: {latex}"
    return True


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("y = x / √(Σ x_i² / n + ε)", r"y = x / \sqrt{\sum \, x_{i}^{2} / n + \epsilon}"),
        ("softmax(QK^T / √d_k) · V", r"\operatorname{softmax} ( \text{QK}^{T} / \sqrt{d_{k}} ) \cdot V"),
        ("|got - want| <= 1e-5", r"| \text{got} - \text{want} | \le 10^{-5}"),
        ("2.5e-3 ≤ x", r"2.5 \times 10^{-3} \le x"),
        ("sum_{k=0}^{K-1} w[k]", r"\sum_{k = 0}^{K - 1} \, w [ k ]"),
        ("H^{l+1} = sigma(D_hat^{-1/2} H^{l})", r"H^{l + 1} = \sigma ( D_{\text{hat}}^{- 1 / 2} \, H^{l} )"),
        ("X^-1 X", r"X^{-1} \, X"),
        ("p_(1) base^(-2i/d)", r"p_{( 1 )} \, \text{base}^{( - 2 i / d )}"),
        ("ĝ, X̂, ȳ", r"\hat{g} , \hat{X} , \bar{y}"),
        ("f''(x)", r"f^{\prime \prime} ( x )"),
        ("head_dim % 2 == 0", r"\text{head\_dim} \  \% 2 == 0"),
        ("x in ℝ^n where n ≥ 1", r"x \  \text{in} \  \mathbb{R}^{n} \  \text{where} \  n \ge 1"),
        ("a != b ⟹ σ(a) ≠ σ(b)", r"a \ne b \Longrightarrow \sigma ( a ) \ne \sigma ( b )"),
        ("{i : x_i > 0}", r"\{ i : x_{i} > 0 \}"),
        ("100_000 & 5 $ #1", r"100\,000 \& 5 \$ \# 1"),
        (r"\frac{a}{b}", r"\backslash \text{frac} \{ a \} \{ b \}"),
        ("don't, naïve", r"\text{don't} , \  \text{na\"{i}ve}"),
        ("x^2^3", r"x^{2} {}^{3}"),
        ("log2(n)", r"\log_{2} ( n )"),
        ("∏_i p_i, Π_i", r"\prod_{i} p_{i} , \prod_{i}"),
        ("☃ 日", r"\text{[U+2603] [U+65E5]}"),
        ("a^", r"a \text{\textasciicircum{}}"),
        ("_", r"\text{\_}"),
        ("^2", r"{}^{2}"),
        ("√", r"\surd"),
        ("a\n\n[b]", r"a$ \newline $\displaystyle [ b ]"),
        ("x (for all finite rows) > 0", r"x ( $for all finite rows$\displaystyle ) > 0"),
        ("x for every row r", r"x $ for every row $\displaystyle r"),
        ("x^{one two three}", r"x^{\text{one two three}}"),
        ("", ""),
    ],
)
def test_what_is_common_is_translated_and_the_rest_is_text(text, latex):
    assert formula(text) == (rf"$\displaystyle {latex}$" if latex else "")
    assert well_formed(formula(text), text=True)


def test_prose_is_no_mathematics():
    assert formula("every row is finite") == "every row is finite"
    assert formula("every row is finite = 1") == r"every row is finite $\displaystyle = 1$"


PIECES = st.sampled_from(
    [
        *latex_signs.SIGNS,
        *latex_signs.NAMES,
        *latex_signs.FUNCTIONS,
        *latex_signs.ACCENTS,
        *latex_signs.RAISED,
        *latex_signs.LOWERED,
        *latex_signs.IN_TEXT,
        *"^_{}()[]xyW0195 \n",
        *("^{", "_{", "^(", "√(", "sqrt(", "head_dim", "1e-5", "log2", "\\\\", "\u202e", "where"),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=30))
@example("^{" * 60 + "}" * 60)
@example("√(" * 60 + ")" * 60)
@example("x\u0302\u0304\u0303\u0307" * 3)
@example("x_ŷ\u0302_a")
def test_whatever_a_formula_holds_tex_will_take_it(text):
    assert well_formed(formula(text), text=True)


@given(st.text(max_size=30) | st.lists(PIECES, max_size=30).map("".join))
def test_whatever_a_name_holds_tex_will_take_it(text):
    assert well_formed(escaped(text), text=True)


@pytest.mark.parametrize(
    "broken",
    [
        "x_{a",
        "x}",
        "50 %",
        "a & b",
        "x^{a}^{b}",
        r"\frac{a}{b}",
        "√x",
        r"\text{a_b}",
        "a $ b",
        r"\hat{x}_{a}_{b}",
        r"\hat{x_{a}}_{b}",
        "x^{" * 50 + "}" * 50,
    ],
)
def test_what_tex_refuses_is_seen(broken):
    with pytest.raises(AssertionError):
        well_formed(broken)


def test_work_grows_with_the_length_of_a_formula_and_no_faster():
    for piece in ("a ", "9", "x_", "^{", "√(", "\u0302", "1_", "word ", "((", "1e5"):
        formula(piece * 20_000)  # a quadratic one would take minutes
