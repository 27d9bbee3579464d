"""Formulas of contracts, which are free text, as LaTeX that compiles.

What is common is translated: Unicode and ASCII operators, Greek letters by character and by name, functions, roots,
subscripts and superscripts. All else becomes text, escaped. The result is one line of ASCII, its braces balance, and it
needs amsmath and amssymb alone. What a formula means is not understood: one that was ambiguous stays so.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pv.latex_signs import ACCENTS, ACCENTS_IN_TEXT, BIG, FUNCTIONS, IN_TEXT, LOWERED, MARKS, NAMES, RAISED, SIGNS

LETTERS = "A-Za-zÀ-ÖØ-öø-ɏ"
TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>[0-9]+(?:_[0-9]{3})*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+(?![A-Za-z0-9]))?)"
    rf"|(?P<word>[{LETTERS}][{LETTERS}0-9]*(?:_[{LETTERS}0-9]+)*(?:(?<=[a-z]{{2}})'[a-z]+)?)"
    r"|(?P<sign><=>|<->|\.\.\.|[<>!=:]=|[-=]>|\|\|)"
    r"|(?P<char>.)",
    re.DOTALL,
)
EMPTY = re.compile(r"\$\\displaystyle ?\$")
CLOSES = {"(": ")", "{": "}"}
PROSE = 3
"""So many words in a row are prose, which leaves math mode, where no line would end between them."""
DEEPEST = 20
"""Groups nested deeper, like a third accent on a letter, are shown as the characters that they are: TeX has limits."""


TEXT, FACTOR, SIGN, MARK = "text", "factor", "sign", "mark"


class Token(NamedTuple):
    """A piece of a formula; kind: space, number, word, sign or char."""

    kind: str
    text: str


@dataclass(slots=True)
class Piece:
    """A piece of LaTeX. Until it is put together, that of a text is what stands inside of its braces.

    kind      TEXT, FACTOR (a letter, a number, a function), SIGN (TeX sets space around it) or MARK (it sets none)
    spaced    whether space stood before it
    scripted  which of ^ and _ it has: TeX refuses a second one
    """

    latex: str
    kind: str
    scripted: str = ""
    spaced: bool = False

    def closed(self) -> str:
        return rf"\text{{{self.latex}}}" if self.kind == TEXT else self.latex


def formula(text: str) -> str:
    """The text as a paragraph: in math mode, but for longer prose, which then breaks into lines as text does."""
    lines = [_Line(line).latex() for line in text.splitlines() if line.strip()]
    return r" \newline ".join(EMPTY.sub("", rf"$\displaystyle {line}$") for line in lines)


class _Line:
    """One line of a formula while it is read."""

    def __init__(self, line: str) -> None:
        text = unicodedata.normalize("NFC", line.strip())
        self.tokens = [Token(str(match.lastgroup), match[0]) for match in TOKEN.finditer(text)]
        self.ends = _ends(self.tokens)

    def latex(self) -> str:
        return self.between(0, len(self.tokens), 0)

    def between(self, at: int, end: int, depth: int) -> str:
        """The tokens from `at` up to `end`."""
        pieces: list[Piece] = []
        spaced = False
        while at < end:
            token = self.tokens[at]
            if token.kind == "space":
                spaced, at = True, at + 1
                continue
            if token.text in "^_":
                behind, script = self.argument(at, end, depth)
                if script:
                    _attach(pieces, token.text, script)
                else:
                    pieces.append(Piece(IN_TEXT[token.text], TEXT, spaced=spaced))
            elif token.text in RAISED or token.text in LOWERED:
                table, mark = (RAISED, "^") if token.text in RAISED else (LOWERED, "_")
                behind = at
                while behind < end and self.tokens[behind].text in table:
                    behind += 1
                _attach(pieces, mark, " ".join(table[token.text] for token in self.tokens[at:behind]))
            elif token.text in ACCENTS and pieces and not spaced and self.tokens[at - 2].text not in ACCENTS:
                last = pieces[-1]
                pieces[-1] = Piece(rf"\{ACCENTS[token.text]}{{{last.closed()}}}", FACTOR, last.scripted, last.spaced)
                behind = at + 1
            else:
                behind, piece = self.atom(at, end, depth)
                piece.spaced = spaced
                pieces.append(piece)
            spaced, at = False, behind
        return _joined(pieces, outer=depth == 0)

    def atom(self, at: int, end: int, depth: int) -> tuple[int, Piece]:
        """What stands at `at` by itself, and where the next begins."""
        kind, text = self.tokens[at]
        if text == "√" or text == "sqrt":
            behind, inner = self.radicand(at, end, depth)
            if behind > at + 1:
                return behind, Piece(rf"\sqrt{{{inner}}}", FACTOR)
            if text == "√":
                return behind, Piece(r"\surd", FACTOR)
        if kind == "word":
            follows = self.tokens[at + 1].text if at + 1 < end else ""
            return at + 1, _word(text, follows == "_")
        if kind == "number":
            return at + 1, _number(text)
        if text in SIGNS:
            follows = self.tokens[at + 1].text if at + 1 < end else ""
            latex = r"\prod" if text == "Π" and follows == "_" else SIGNS[text]
            return at + 1, Piece(latex, FACTOR if text.isalpha() else MARK if text in MARKS else SIGN)
        return at + 1, Piece(escaped(text), TEXT)

    def argument(self, at: int, end: int, depth: int) -> tuple[int, str]:
        """The argument of the ^ or _ at `at`, and where the next token begins; '' where none follows."""
        first = at + 1
        if self.tokens[at].text == "^" and first < end and self.tokens[first].kind == "space":
            first += 1
        if first >= end:
            return at + 1, ""
        kind, text = self.tokens[first]
        close = self.ends.get(first, end)
        if close < end and depth < DEEPEST:
            inner = self.between(first + 1, close, depth + 1)
            return close + 1, (inner or "{}") if text == "{" else f"( {inner} )"
        if text in ("-", "+") and first + 1 < end and self.tokens[first + 1].kind in ("number", "word"):
            behind, piece = self.atom(first + 1, end, depth)
            return behind, text + piece.closed()
        if kind in ("number", "word") or text == "*" or (kind == "char" and text in SIGNS and text.isalpha()):
            behind, piece = self.atom(first, end, depth)
            return behind, piece.closed()
        return at + 1, ""

    def radicand(self, at: int, end: int, depth: int) -> tuple[int, str]:
        """What stands below the root that begins at `at`; the next token is then at + 1 where nothing does."""
        first = at + 1
        if first < end and self.tokens[first].kind == "space":
            first += 1
        close = self.ends.get(first, end)
        if close < end and depth < DEEPEST:
            return close + 1, self.between(first + 1, close, depth + 1)
        root = self.tokens[at].text == "√"
        if not root or first >= end:
            return at + 1, ""
        kind, text = self.tokens[first]
        if kind in ("number", "word") or (kind == "char" and text in SIGNS and text.isalpha()):
            behind, inner = self.atom(first, end, DEEPEST)
            if behind + 1 < end and self.tokens[behind].text == "_":
                further, script = self.argument(behind, end, depth)
                if script:
                    return further, f"{inner.closed()}_{{{script}}}"
            return behind, inner.closed()
        return at + 1, ""


def _ends(tokens: Sequence[Token]) -> dict[int, int]:
    """Where the parenthesis or brace that opens at an index is closed."""
    ends: dict[int, int] = {}
    open_: dict[str, list[int]] = {close: [] for close in CLOSES.values()}
    for at, token in enumerate(tokens):
        if token.text in CLOSES:
            open_[CLOSES[token.text]].append(at)
        elif open_.get(token.text):
            ends[open_[token.text].pop()] = at
    return ends


def _word(text: str, subscripted: bool) -> Piece:
    """A letter, a Greek letter or a function by its name, with what follows the first underscore below; else text."""
    base, _, below = text.partition("_")
    if (below or subscripted) and base in BIG:
        latex = BIG[base]
    elif base in NAMES:
        latex = NAMES[base]
    elif base in FUNCTIONS:
        latex = FUNCTIONS[base]
    elif len(base) == 1:
        latex = _letter(base)
    else:
        return Piece(escaped(text), TEXT)
    if not below:
        return Piece(latex, FACTOR, "_" if base in ("log2", "log10") else "")
    base = "{" + latex + "}" if base in ("log2", "log10") else latex
    plain = below.isascii() and (len(below) == 1 or below.isdecimal())
    inner = below if plain else NAMES.get(below) or rf"\text{{{escaped(below)}}}"
    return Piece(f"{base}_{{{inner}}}", FACTOR, "_")


def _letter(char: str) -> str:
    """A Latin letter, perhaps with an accent."""
    if char.isascii():
        return char
    parts = unicodedata.normalize("NFD", char)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in ACCENTS:
        return rf"\{ACCENTS[parts[1]]}{{{parts[0]}}}"
    return rf"\text{{{escaped(char)}}}"


def _number(text: str) -> Piece:
    digits, _, power = text.lower().partition("e")
    digits = digits.replace("_", r"\,")
    if not power:
        return Piece(digits, FACTOR)
    ten = f"10^{{{power.removeprefix('+')}}}"
    return Piece(ten if digits == "1" else rf"{digits} \times {ten}", FACTOR, "^")


def _attach(pieces: list[Piece], mark: str, script: str) -> None:
    """Raise or lower a script behind the last piece, or behind nothing where that has one already."""
    if not pieces or mark in pieces[-1].scripted:
        pieces.append(Piece("{}", FACTOR))
    last = pieces[-1]
    kind = FACTOR if last.kind == TEXT else last.kind
    pieces[-1] = Piece(f"{last.closed()}{mark}{{{script}}}", kind, last.scripted + mark, last.spaced)


def _joined(pieces: Sequence[Piece], *, outer: bool) -> str:
    """The pieces with the spaces that TeX would not set itself; outer: math mode may be left for prose."""
    return " ".join(_parts(pieces, outer))


def _parts(pieces: Sequence[Piece], outer: bool) -> Iterator[str]:
    last: Piece | None = None
    at = 0
    while at < len(pieces):
        piece, end = pieces[at], at + 1
        run = piece.latex
        while piece.kind == TEXT and end < len(pieces) and pieces[end].kind == TEXT:  # texts that belong together
            run += f" {pieces[end].latex}" if pieces[end].spaced else pieces[end].latex
            end += 1
        if outer and piece.kind == TEXT and run.count(" ") >= PROSE - 1:
            ends = " " if end < len(pieces) and pieces[end].spaced else ""
            yield f"${' ' if piece.spaced else ''}{run}{ends}$" + r"\displaystyle"
            last = None
        else:
            if last and piece.spaced:
                kinds = {last.kind, piece.kind}
                if TEXT in kinds and SIGN not in kinds:
                    yield r"\ "
                elif kinds == {FACTOR}:
                    yield r"\,"
            yield rf"\text{{{run}}}" if piece.kind == TEXT else run
            last = piece
        at = end


# -- text -------------------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """The text for text mode."""
    return "".join(map(_escaped, " ".join(unicodedata.normalize("NFC", text).split())))


def _escaped(char: str) -> str:
    if char in IN_TEXT:
        return IN_TEXT[char]
    if char.isascii() and char.isprintable():
        return char
    if char in SIGNS:
        return rf"\ensuremath{{{SIGNS[char]}}}"
    for table, mark in ((RAISED, "^"), (LOWERED, "_")):
        if char in table:
            return rf"\ensuremath{{{mark}{{{table[char]}}}}}"
    parts = unicodedata.normalize("NFD", char)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in ACCENTS_IN_TEXT:
        return rf"\{ACCENTS_IN_TEXT[parts[1]]}{{{parts[0]}}}"
    return f"[U+{ord(char):04X}]"
