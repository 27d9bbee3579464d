"""`pv equations`: the equations of contracts, as text or as a LaTeX document."""

from collections.abc import Iterator

from pv.collection import Collection
from pv.contract import Contract, Entry
from pv.excerpt import printable
from pv.latex import escaped, formula
from pv.obligations import plural

HEAD = r"""\documentclass{article}
\usepackage{amsmath,amssymb}
\begin{document}"""
SIDES = ("domain", "codomain")


def count(collected: Collection) -> int:
    return sum(len(list(contract.equation_entries())) for contract in collected.contracts)


def as_text(collected: Collection) -> str:
    """Each equation below its contract; the last line counts."""
    lines = [line for contract in collected.contracts for line in _told(contract)]
    lines.append(f"{plural(len(collected.contracts), 'contract')}: {plural(count(collected), 'equation')}")
    return "\n".join(map(printable, lines))


def _told(contract: Contract) -> Iterator[str]:
    yield str(contract.path)
    for name, entry in contract.equation_entries():
        yield f"  {name} (line {entry.document.position(entry.place).line})"
        yield from (f"    {line.strip()}" for line in entry.text("formula").splitlines() if line.strip())
        yield from (f"    {side}: {text}" for side, text in _sides(entry))


def _sides(entry: Entry) -> Iterator[tuple[str, str]]:
    for side in SIDES:
        if text := " ".join(entry.text(side).split()):
            yield side, text
    for text in entry.texts("invariants"):
        yield "invariant", " ".join(text.split())


def as_latex(collected: Collection) -> str:
    """A document with a section for each contract. It is ASCII, and compiles whatever the contracts hold."""
    lines = [HEAD]
    for contract in collected.contracts:
        lines += ["", rf"\section*{{{escaped(contract.stem)}}}"]
        entries = list(contract.equation_entries())
        if not entries:
            lines.append("No equation.")
            continue
        lines.append(r"\begin{description}")
        for name, entry in entries:
            lines.append(rf"\item[{{{escaped(name)}}}] {formula(entry.text('formula'))}")
            lines += [rf"\par {side}: {formula(text)}" for side, text in _sides(entry)]
        lines.append(r"\end{description}")
    return "\n".join([*lines, "", r"\end{document}"])
