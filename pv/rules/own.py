"""Rules that the public tool does not have.

They are named by what they are about: PV-TYPE shapes, PV-LINK references within a contract, PV-RUN what a test runs,
PV-STATUS levels, PV-TOL tolerances, PV-DUP what occurs twice. Here are those about one contract by itself;
pv.rules.tolerances has those about tolerances, pv.rules.between those between contracts, pv.rules.project those about
the project, pv.rules.scalars those about YAML.

A test without falsifiers is foreign, unless that key is merely misspelt: what breaks a rule about keys that pv alone
reads is a warning there, since these keys may mean something else to their author. So is, in a contract that has no
test written for pv, what the public tool accepts: nothing of pv runs there, so no level can rest on it.
"""

import functools
import re
from collections.abc import Iterator

from pv.contract import TARGET, Contract, Entry, FalsificationTest, not_applicable
from pv.findings import ERROR, WARNING, Hit, again, blank, line_of, rule
from pv.places import STDIN
from pv.shapes import CHOICE, LOOSE, REQUIRED, TYPE, Mismatch, described, mismatches, named, nearest, records
from pv.vocabulary import CONTRACT
from pv.words import FOLDER_NAME, FOLDER_NAMES, LIFE, ROLES, Level, level_named
from pv.yaml_loader import Document, Position


@functools.lru_cache(maxsize=1)  # asked by one rule after the other, about one document
def _mismatches(document: Document) -> tuple[Mismatch, ...]:
    return tuple(mismatches(document, CONTRACT))


def _shape(contract: Contract, kind: str) -> Iterator[Hit]:
    ours = {test.entry.place for test in contract.tests if test.ours}
    for found in _mismatches(contract.document):
        if found.kind == kind:
            test = found.place[:1] == ("falsification_tests",)
            mine = found.place[:2] in ours if test else bool(ours)
            yield Hit(found.place, found.message, found.hint, (found.ours or found.empty) and not mine)


def hit_in(test: FalsificationTest, key: str, message: str, hint: str = "", item: str | int | None = None) -> Hit:
    """A hit at a key of a test, or at an item in its value; in a foreign test it is a warning."""
    place = test.entry.at(key) if item is None else (*test.entry.at(key), item)
    return Hit(place, f"{test.id or 'a falsification test'}: {message}", hint, not test.ours)


@rule("PV-TYPE-001", ERROR, "a value has the type that its key asks for")
def types(contract: Contract) -> Iterator[Hit]:
    yield from _shape(contract, TYPE)


@rule("PV-TYPE-005", WARNING, "where text is meant stands text, no number and no true or false")
def prose(contract: Contract) -> Iterator[Hit]:
    for hit in _shape(contract, LOOSE):
        value = contract.root.raw["metadata"]["version"] if hit.at == ("metadata", "version") else None
        if type(value) is not float:  # 1.0 is a version to its author; PV-STYLE-005 asks for a semantic one
            yield hit


@rule("PV-TYPE-002", ERROR, "a key without which the contract cannot be read is there")
def required_keys(contract: Contract) -> Iterator[Hit]:
    yield from _shape(contract, REQUIRED)


@rule("PV-REQ-001", ERROR, "an entry has the keys that its kind asks for")
def asked_keys(contract: Contract) -> Iterator[Hit]:
    ours = {test.entry.place for test in contract.tests if test.ours}
    for place, raw, record in records(contract.root.raw, CONTRACT):
        for name, key in record.keys.items():
            if key.asked != "PV-REQ-001":
                continue
            value = next((raw[word] for word in (name, *key.also) if raw.get(word) is not None), None)
            if value is None and not key.required:  # PV-TYPE-002 tells of what is required
                what = f"{named(place)} has no {name}"
            elif isinstance(value, str) and not value.strip():
                what = f"{named((*place, name))} is empty"
            else:
                continue
            at = Entry(contract.document, place, raw).at(name)
            yield Hit(at, what, f"{name}: {key.what}", place not in ours)


@rule("PV-TYPE-004", ERROR, "metadata.description is not empty")
def description(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    if metadata and metadata.raw.get("description") is not None and blank(metadata, "description"):
        hint = "say what the contract is about"
        yield Hit(metadata.at("description"), "metadata.description is empty", hint, not contract.ours)


@rule("PV-TYPE-003", ERROR, "a word from a closed vocabulary is one of it")
def choices(contract: Contract) -> Iterator[Hit]:
    yield from _shape(contract, CHOICE)


@rule("PV-LINK-001", ERROR, "binds_to names an equation of the contract")
def bound_equation(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.binds_to and test.binds_to not in contract.equations:
            hint = nearest(test.binds_to, contract.equations)
            yield hit_in(test, "binds_to", f"there is no equation {test.binds_to!r}", hint)


@rule("PV-LINK-002", ERROR, "the obligations of a test are ids of proof obligations of the contract")
def named_obligations(contract: Contract) -> Iterator[Hit]:
    known = {entry.text("id"): None for entry in contract.root.entries("proof_obligations") if entry.text("id")}
    for test in contract.tests:
        for index, name in items(test, "obligations"):
            if name not in known:
                what = f"no proof obligation has the id {name!r}"
                yield hit_in(test, "obligations", what, nearest(name, known), index)


@rule("PV-LINK-003", WARNING, "an obligation has an id that a test names")
def untested_obligations(contract: Contract) -> Iterator[Hit]:
    ours = [test.raw.get("obligations") for test in contract.tests if test.ours]
    if not ours or any(isinstance(names, str | int | float | dict) for names in ours):
        return  # PV-TYPE-001 reports names that stand in no list
    named = {name for test in contract.tests for name in test.obligations}
    for entry in contract.root.entries("proof_obligations"):
        name = entry.text("id")
        if name in named or not_applicable(entry):
            continue
        if name:
            what, hint = (
                f"no falsification test names the obligation {name!r}",
                "name it in obligations: [..] of a test",
            )
        else:
            what, hint = "the obligation has no id, so no test can name it", "id: OBL-1"
        yield Hit(entry.at("id"), what, hint)


@rule("PV-LINK-004", WARNING, "a test is bound to an equation")
def bound_to_nothing(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.ours and not test.covers and blank(test.entry, "binds_to") and contract.equations:
            hint = f"binds_to: {next(iter(contract.equations))}, or whichever it is about"
            yield hit_in(test, "id", "is bound to no equation", hint)


@rule("PV-LINK-005", WARNING, "a test names the obligations that it tries")
def tries_no_obligation(contract: Contract) -> Iterator[Hit]:
    known = [entry.text("id") for entry in contract.root.entries("proof_obligations") if entry.text("id")]
    for test in contract.tests:
        if test.ours and not test.covers and not test.raw.get("obligations") and known:
            yield hit_in(test, "id", "names no obligation", f"obligations: [{known[0]}], or whichever it tries")


@rule("PV-RUN-001", ERROR, "the roles of falsifiers are algorithm, live and oracle")
def roles(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        for role in test.falsifiers:
            if role not in ROLES:
                yield hit_in(test, "falsifiers", f"there is no role {role!r}", nearest(role, ROLES), role)


@rule("PV-RUN-002", ERROR, "a falsifier is written module:function")
def targets(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        falsifiers = test.entry.entry("falsifiers")
        for role, value in falsifiers.raw.items() if falsifiers else ():
            target = falsifiers.text(role) if falsifiers else ""
            if not isinstance(value, list | dict) and not TARGET.fullmatch(target):
                what = f"the {role} falsifier is {target!r}, not module:function"
                yield hit_in(test, "falsifiers", what, "as in falsifiers.rmsnorm:scale_invariance", role)


@rule("PV-RUN-003", WARNING, "a test that runs has mutants")
def unproven(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.falsifiers and not test.mutants:
            hint = "a test that was never seen red earns no level: name planted defects that it must catch"
            yield hit_in(test, "falsifiers", "has falsifiers but no mutants", hint)


@rule("PV-RUN-004", ERROR, "live and oracle falsifiers have models to run on")
def models(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        for role in test.falsifiers:
            if role in ROLES[1:] and not test.models:
                yield hit_in(test, "falsifiers", f"{role} has no models to run on", "models: [tiny-qwen2]", role)


@rule("PV-RUN-005", WARNING, "a test with falsifiers has an algorithm falsifier")
def no_algorithm(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.ours and "algorithm" not in test.falsifiers:
            hint = f"{Level.PARTIAL.value} is the first step to any level, and only an algorithm falsifier can earn it"
            yield hit_in(test, "falsifiers", "has no algorithm falsifier", hint)


@rule("PV-RUN-006", ERROR, "a test names each mutant and each model once")
def repeated_names(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        for key in ("mutants", "models"):
            seen: set[str] = set()
            for index, name in items(test, key):
                if name in seen:
                    yield hit_in(test, key, f"{name!r} stands twice among its {key}", item=index)
                seen.add(name)


@rule("PV-RUN-012", ERROR, "a test that runs, and its contract, are called what a folder of evidence can be called")
def folder_names(contract: Contract) -> Iterator[Hit]:
    if contract.ours and contract.path.name != STDIN and not FOLDER_NAME.fullmatch(contract.stem):
        what = f"{contract.stem!r}, the name of the file, cannot name a folder of evidence"
        yield Hit(Position(1, 1), what, f"rename the file: use {FOLDER_NAMES}")
    for test in contract.tests:
        if test.ours and test.id and not FOLDER_NAME.fullmatch(test.id):
            what = f"the id {test.id!r} cannot name a folder of evidence"
            yield Hit(test.entry.at("id"), what, f"use {FOLDER_NAMES}")


@rule("PV-STATUS-001", ERROR, "the status of a test is a level")
def status(contract: Contract) -> Iterator[Hit]:
    wrong = [test for test in contract.tests if test.status is not None and level_named(test.status) is None]
    foreign = [test for test in wrong if not test.ours]  # with words of another tool, as a rule all of them
    for test in (*foreign[:1], *(test for test in wrong if test.ours)):
        others = 0 if test.ours else len(foreign) - 1
        more = f", nor is the status of {others} more test{'s' if others > 1 else ''}" if others else ""
        hint = nearest(str(test.status).upper(), tuple(Level))
        yield hit_in(test, "status", f"{test.status!r} is no level{more}", hint)


@rule("PV-STATUS-004", WARNING, "a test that nothing runs states no level")
def typed_level(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        level = level_named(test.status or "")
        if level is not None and level.worth > Level.UNTESTED.worth and not test.falsifiers:
            what = f"{test.id or 'a falsification test'} states {level.value}, and nothing runs it: it earned UNTESTED"
            yield Hit(test.entry.at("status"), what, "name falsifiers: a level is computed, nobody types it")


@rule("PV-STATUS-005", ERROR, "the status of the document is PROPOSED, ACTIVE or RETIRED")
def life(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    value = metadata.raw.get("status") if metadata else None
    if metadata is None or value in (None, ""):
        return
    word = metadata.text("status").strip().upper()
    level = level_named(word)
    if word not in LIFE and (level or contract.ours):  # other words of another tool may be right there
        said = described(value) if isinstance(value, list | dict) else repr(metadata.text("status"))
        what = f"metadata.status is {said}, {'a level: a document has none' if level else 'which nobody reads'}"
        hint = "tests have levels, which are computed; write PROPOSED, ACTIVE or RETIRED, or nothing"
        yield Hit(metadata.at("status"), what, hint if level else nearest(word, LIFE), not contract.ours)


@rule("PV-DUP-003", ERROR, "no two obligations and no two equations of a contract have the same id")
def same_id_within(contract: Contract) -> Iterator[Hit]:
    for key, noun in (("proof_obligations", "obligation"), ("equations", "equation")):
        for entry, name, first in again(contract.root.entries(key), "id"):
            what = f"the {noun} id {name!r} is taken in line {line_of(first, 'id')}"
            hint = "a test that names it would be about either"
            yield Hit(entry.at("id"), what, hint, not contract.ours)


@rule("PV-DUP-005", WARNING, "no id of a contract stands in two of its sections")
def same_id_in_two_sections(contract: Contract) -> Iterator[Hit]:
    first: dict[str, tuple[str, Entry]] = {}
    for section in ("proof_obligations", "falsification_tests", "kani_harnesses", "qa_gate"):
        gate = contract.root.entry(section)
        for entry in (gate,) if gate else contract.root.entries(section):
            if name := entry.text("id").strip():
                other, its = first.setdefault(name, (section, entry))
                if other != section:
                    what = f"the id {name} stands in {other} too, in line {line_of(its, 'id')}"
                    yield Hit(entry.at("id"), what, "who reads it cannot tell which one is meant")


@rule("PV-DUP-004", WARNING, "the names of equations differ in more than case and separators")
def similar_equations(contract: Contract) -> Iterator[Hit]:
    first: dict[str, str] = {}
    for name, entry in contract.equation_entries():
        other = first.setdefault(re.sub(r"[\W_]", "", name).casefold() or name, name)
        if other != name:
            yield Hit(entry.place, f"the equation {name!r} is easily taken for {other!r}", "rename one, or merge them")


def items(test: FalsificationTest, key: str) -> Iterator[tuple[int, str]]:
    """The texts in a list of the test, as they were written, with their places in it."""
    found = test.entry.raw.get(key)
    for index, item in enumerate(found if isinstance(found, list) else ()):
        text = item if isinstance(item, str) else test.entry.document.source((*test.entry.at(key), index))
        if text:
            yield index, text
