"""Rules of the public tool for contracts of this kind, under the same ids."""

import functools
import re
from collections.abc import Iterator

from pv.contract import Contract, Entry, not_applicable
from pv.facts import stem_of
from pv.findings import ERROR, WARNING, Hit, again, blank, called, line_of, rule
from pv.vocabulary import CONTRACT

CLAIMS = ("proof_obligations", "falsification_tests")


@rule("SCHEMA-001", ERROR, "metadata.references names at least one source")
def references(contract: Contract) -> Iterator[Hit]:
    metadata, foreign = contract.root.entry("metadata"), not contract.ours
    given = metadata.raw.get("references") if metadata else None
    items = given if isinstance(given, list) else []
    blanks = [index for index, one in enumerate(items) if one is None or (isinstance(one, str) and not one.strip())]
    hint = "cite a paper, a spec, a file format"
    if metadata and (given in (None, []) or (blanks and len(blanks) == len(items))):
        yield Hit(metadata.at("references"), "metadata.references names no source", hint, foreign and bool(items))
    elif metadata:
        for index in blanks:
            yield Hit((*metadata.at("references"), index), f"metadata.references[{index}] is empty", hint, foreign)


@rule("SCHEMA-002", ERROR, "metadata.version is not empty")
def version(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    if metadata and blank(metadata, "version"):
        hint = 'write version: "1.0.0"'
        what = "metadata.version is empty" if "version" in metadata.raw else "metadata has no version"
        yield Hit(metadata.at("version"), what, hint, _blanks(contract, metadata, "version"))


@rule("SCHEMA-003", ERROR, "a kernel contract has equations")
def equations(contract: Contract) -> Iterator[Hit]:
    if contract.kind == "kernel" and contract.root.raw.get("equations") in (None, {}, []):
        yield Hit(("equations",), "the contract has no equations", _kernel_hint(contract))


@rule("SCHEMA-004", ERROR, "an equation has a formula")
def formulas(contract: Contract) -> Iterator[Hit]:
    lenient = contract.kind != "kernel" and not contract.ours
    for name, entry in contract.equation_entries():
        if blank(entry, "formula"):
            prose = lenient and "formula" not in entry.raw  # public contracts of other kinds have it in its place
            foreign = prose or _blanks(contract, entry, "formula")
            yield Hit(entry.at("formula"), f"equation {name!r} has no formula", foreign=foreign)


@rule("SCHEMA-005", ERROR, "a proof obligation states a property")
def properties(contract: Contract) -> Iterator[Hit]:
    for entry in contract.root.entries("proof_obligations"):
        if blank(entry, "property"):
            what = f"{called(entry, 'proof obligation')} states no property"
            yield Hit(entry.at("property"), what, foreign=_blanks(contract, entry, "property"))


@rule("SCHEMA-006", WARNING, "no two proof obligations have the same formal text")
def same_formal(contract: Contract) -> Iterator[Hit]:
    for entry, _, first in again(contract.root.entries("proof_obligations"), "formal"):
        yield Hit(entry.at("formal"), f"the same formal text as in line {line_of(first, 'formal')}")


@rule("SCHEMA-007", ERROR, "the ids of falsification tests differ")
def same_test_id(contract: Contract) -> Iterator[Hit]:
    for entry, text, first in again(contract.root.entries("falsification_tests"), "id"):
        yield Hit(entry.at("id"), f"the id {text} is taken by the falsification test in line {line_of(first, 'id')}")


@rule("SCHEMA-008", ERROR, "a falsification test predicts something")
def predictions(contract: Contract) -> Iterator[Hit]:
    for entry in contract.root.entries("falsification_tests"):
        if blank(entry, "prediction"):
            hint = "prediction: what will be observed if the rule holds, with numbers"
            what = f"{called(entry, 'falsification test')} predicts nothing"
            yield Hit(entry.at("prediction"), what, hint, _blanks(contract, entry, "prediction"))


@rule("SCHEMA-009", WARNING, "a falsification test says what is broken if it fails")
def consequences(contract: Contract) -> Iterator[Hit]:
    for entry in contract.root.entries("falsification_tests"):
        if blank(entry, "if_fails"):
            hint = "if_fails: what is broken then, and where to look"
            what = f"{called(entry, 'falsification test')} does not say what is broken if it fails"
            yield Hit(entry.at("if_fails"), what, hint)


@rule("SCHEMA-010", ERROR, "the ids of kani harnesses differ")
def same_kani_id(contract: Contract) -> Iterator[Hit]:
    for entry, text, first in again(contract.root.entries("kani_harnesses"), "id"):
        yield Hit(entry.at("id"), f"the id {text} is taken by the kani harness in line {line_of(first, 'id')}")


@rule("SCHEMA-011", ERROR, "a kani harness names its obligation")
def kani_obligations(contract: Contract) -> Iterator[Hit]:
    for entry in contract.root.entries("kani_harnesses"):
        if blank(entry, "obligation"):
            what = f"{called(entry, 'kani harness')} names no obligation"
            yield Hit(entry.at("obligation"), what, foreign=_blanks(contract, entry, "obligation"))


@rule("SCHEMA-012", WARNING, "a kani harness states its bound, 1 or more")
def kani_bounds(contract: Contract) -> Iterator[Hit]:
    for entry in contract.root.entries("kani_harnesses"):
        bound = entry.raw.get("bound")
        if bound is None:
            yield Hit(entry.at("bound"), f"{called(entry, 'kani harness')} states no bound")
        elif isinstance(bound, int | float) and not bound >= 1:
            what = f"{called(entry, 'kani harness')} states the bound {entry.text('bound')}, which unrolls nothing"
            yield Hit(entry.at("bound"), what, "bound: 1 or more")


@rule("SCHEMA-013", WARNING, "a kernel contract has a qa_gate")
def gate(contract: Contract) -> Iterator[Hit]:
    if contract.kind == "kernel" and contract.root.raw.get("qa_gate") is None:
        yield Hit(("qa_gate",), "the contract has no qa_gate", _kernel_hint(contract))


@rule("SCHEMA-014", ERROR, "requires stands in postconditions alone")
def misplaced_requires(contract: Contract) -> Iterator[Hit]:
    yield from _belongs(contract, "requires", ("postcondition",))


@rule("SCHEMA-015", ERROR, "applies_to_phase stands in loop invariants and loop variants alone")
def misplaced_phase(contract: Contract) -> Iterator[Hit]:
    yield from _belongs(contract, "applies_to_phase", ("loop_invariant", "loop_variant"))


@rule("SCHEMA-016", ERROR, "parent_contract stands in subcontracts alone")
def misplaced_parent(contract: Contract) -> Iterator[Hit]:
    yield from _belongs(contract, "parent_contract", ("subcontract",))


@rule("SCHEMA-017", ERROR, "metadata.depends_on names the parent contract of a subcontract")
def undeclared_parent(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    declared = {stem_of(name) for name in metadata.texts("depends_on")} if metadata else set()
    for entry in contract.root.entries("proof_obligations"):
        parent = entry.raw.get("parent_contract")
        if entry.text("type") != "subcontract" or parent is None or isinstance(parent, list | dict):
            continue
        name = entry.text("parent_contract")
        if not name.strip():
            yield Hit(entry.at("parent_contract"), f"{called(entry, 'proof obligation')} names no parent contract")
        elif stem_of(name) not in declared:
            what = f"metadata.depends_on does not name the parent contract {name!r}"
            yield Hit(entry.at("parent_contract"), what, "add it there: whoever draws the dependencies reads that list")


@rule("SCHEMA-018", ERROR, "kind stands in metadata, not at the top")
def top_level_kind(contract: Contract) -> Iterator[Hit]:
    if "kind" in contract.root.raw:
        yield Hit(("kind",), "kind at the top level is read by nobody", "move it into metadata")


@rule("SCHEMA-019", ERROR, "no top-level key is a known one in another case, number or separator")
def misspelt_keys(contract: Contract) -> Iterator[Hit]:
    known = [name for name, key in CONTRACT.keys.items() if not key.kind]
    for key in contract.root.raw:
        meant = next((name for name in known if _forms(name) & _forms(key)), None)
        if meant is not None and key not in CONTRACT.keys:
            yield Hit((key,), f"the key {key!r} is read by nobody", f"write {meant!r}")


@rule("SCHEMA-020", ERROR, "no key occurs twice in a mapping")
def duplicate_keys(contract: Contract) -> Iterator[Hit]:
    for twice in contract.document.duplicates:
        message = f"the key {twice.path[-1]!r} occurs twice, first in line {twice.first.line}"
        yield Hit(twice.again, message, "keep one of them: readers disagree about which one counts")


@rule("SCHEMA-021", ERROR, "an obligation that is not applicable has a reason")
def not_applicable_reason(contract: Contract) -> Iterator[Hit]:
    yield from _not_applicable_without(contract, "na_reason")


@rule("SCHEMA-022", ERROR, "an obligation that is not applicable has an owner")
def not_applicable_owner(contract: Contract) -> Iterator[Hit]:
    yield from _not_applicable_without(contract, "na_owner")


@rule("SCHEMA-023", ERROR, "na_reason and na_owner belong to obligations that are not applicable")
def applicable_with_excuse(contract: Contract) -> Iterator[Hit]:
    for entry in contract.root.entries("proof_obligations"):
        for key in ("na_reason", "na_owner"):
            if not not_applicable(entry) and entry.raw.get(key) is not None:
                yield Hit(entry.at(key), f"{key} without applies_to: not_applicable")


@rule("PROVABILITY-001", ERROR, "a kernel has obligations, no fewer tests, and Kani harnesses", lint=True)
def provability(contract: Contract) -> Iterator[Hit]:
    sections = {"kernel": (*CLAIMS, "kani_harnesses"), "competitive-parity": CLAIMS}.get(contract.kind, ())
    for section in sections:
        if not any(contract.root.entries(section)):
            yield Hit((section,), f"the contract has no {section}", _kernel_hint(contract))
    obligations, tests = len(contract.obligations), len(contract.tests)
    if sections and 0 < tests < obligations:
        hint = "what has no test of its own can be broken without notice"
        yield Hit(("falsification_tests",), f"{tests} falsification tests for {obligations} proof obligations", hint)


def _blanks(contract: Contract, entry: Entry, name: str) -> bool:
    """Whether a foreign contract has blanks where text belongs: the public tool refuses the empty text alone."""
    value = entry.raw.get(entry.key(name))
    return not contract.ours and isinstance(value, str) and bool(value)


def _kernel_hint(contract: Contract) -> str:
    metadata = contract.root.entry("metadata")
    if metadata and metadata.text("kind"):
        return f"this is asked of every contract whose metadata.kind is {contract.kind}"
    return "no metadata.kind, judged kernel by default: name the kind if this is none"


@functools.lru_cache(maxsize=4096)
def _forms(key: str) -> frozenset[str]:
    """What a key may be the plural of, and itself, without case and separators: gates -> gate; harnesses -> harness."""
    plain = re.sub(r"[\W_]", "", key.lower())
    return frozenset({plain, plain.removesuffix("s"), plain.removesuffix("es")} - {""})


def _belongs(contract: Contract, key: str, types: tuple[str, ...]) -> Iterator[Hit]:
    for entry in contract.root.entries("proof_obligations"):
        kind = entry.text("type") or "invariant"  # what an obligation is that does not say
        if entry.raw.get(key) is not None and kind not in types:
            owner = " or ".join(types)
            yield Hit(entry.at(key), f"{key} in an obligation of type {kind}", f"it is read in type: {owner} alone")


def _not_applicable_without(contract: Contract, key: str) -> Iterator[Hit]:
    for entry in contract.root.entries("proof_obligations"):
        if not_applicable(entry) and blank(entry, key):
            yield Hit(entry.at("applies_to"), f"applies_to: not_applicable without {key}")
