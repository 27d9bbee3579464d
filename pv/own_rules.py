"""Rules that the public tool does not have.

They are named by what they are about: PV-TYPE shapes, PV-LINK references within a contract, PV-RUN what a test runs,
PV-STATUS levels, PV-TOL tolerances, PV-DUP what occurs twice in a run.

A test without falsifiers is foreign: what breaks a rule about keys that pv alone reads is a warning there, since these
keys may mean something else to their author.
"""

import math
from collections.abc import Iterator, Sequence

from pv.contract import TARGET, Contract, FalsificationTest
from pv.findings import ERROR, WARNING, Hit, rule, run_rule
from pv.shapes import CHOICE, REQUIRED, TYPE, mismatches, nearest
from pv.vocabulary import CONTRACT
from pv.words import ROLES, Level, level_named


def _shape(contract: Contract, kind: str) -> Iterator[Hit]:
    ours = {test.entry.place for test in contract.tests if test.ours}
    for found in mismatches(contract.document, CONTRACT):
        if found.kind == kind:
            yield Hit(found.place, found.message, found.hint, found.ours and found.place[:2] not in ours)


def _hit(test: FalsificationTest, key: str, message: str, hint: str = "", item: str | int | None = None) -> Hit:
    place = test.entry.at(key) if item is None else (*test.entry.at(key), item)
    return Hit(place, f"{test.id or 'a falsification test'}: {message}", hint, not test.ours)


@rule("PV-TYPE-001", ERROR, "a value has the type that its key asks for")
def types(contract: Contract) -> Iterator[Hit]:
    yield from _shape(contract, TYPE)


@rule("PV-TYPE-002", ERROR, "a key without which the contract cannot be read is there")
def required_keys(contract: Contract) -> Iterator[Hit]:
    yield from _shape(contract, REQUIRED)


@rule("PV-TYPE-003", ERROR, "a word from a closed vocabulary is one of it")
def choices(contract: Contract) -> Iterator[Hit]:
    yield from _shape(contract, CHOICE)


@rule("PV-LINK-001", ERROR, "binds_to names an equation of the contract")
def bound_equation(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.binds_to and test.binds_to not in contract.equations:
            hint = nearest(test.binds_to, contract.equations)
            yield _hit(test, "binds_to", f"there is no equation {test.binds_to!r}", hint)


@rule("PV-LINK-002", ERROR, "the obligations of a test are ids of proof obligations of the contract")
def named_obligations(contract: Contract) -> Iterator[Hit]:
    known = {entry.text("id"): None for entry in contract.root.entries("proof_obligations") if entry.text("id")}
    for test in contract.tests:
        for index, name in _items(test, "obligations"):
            if name not in known:
                what = f"no proof obligation has the id {name!r}"
                yield _hit(test, "obligations", what, nearest(name, known), index)


@rule("PV-RUN-001", ERROR, "the roles of falsifiers are algorithm, live and oracle")
def roles(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        for role in test.falsifiers:
            if role not in ROLES:
                yield _hit(test, "falsifiers", f"there is no role {role!r}", nearest(role, ROLES), role)


@rule("PV-RUN-002", ERROR, "a falsifier is written module:function")
def targets(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        falsifiers = test.entry.entry("falsifiers")
        for role, value in falsifiers.raw.items() if falsifiers else ():
            target = falsifiers.text(role) if falsifiers else ""
            if not isinstance(value, list | dict) and not TARGET.fullmatch(target):
                what = f"the {role} falsifier is {target!r}, not module:function"
                yield _hit(test, "falsifiers", what, "as in falsifiers.rmsnorm:scale_invariance", role)


@rule("PV-RUN-003", WARNING, "a test that runs has mutants")
def unproven(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.falsifiers and not test.mutants:
            hint = "a test that was never seen red earns no level: name planted defects that it must catch"
            yield _hit(test, "falsifiers", "has falsifiers but no mutants", hint)


@rule("PV-RUN-004", ERROR, "live and oracle falsifiers have models to run on")
def models(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        for role in test.falsifiers:
            if role in ROLES[1:] and not test.models:
                yield _hit(test, "falsifiers", f"{role} has no models to run on", "models: [tiny-qwen2]", role)


@rule("PV-RUN-005", WARNING, "a test with falsifiers has an algorithm falsifier")
def no_algorithm(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.ours and "algorithm" not in test.falsifiers:
            hint = f"{Level.PARTIAL.value} is the first step to any level, and only an algorithm falsifier can earn it"
            yield _hit(test, "falsifiers", "has no algorithm falsifier", hint)


@rule("PV-RUN-006", ERROR, "a test names each mutant and each model once")
def repeated_names(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        for key in ("mutants", "models"):
            seen: set[str] = set()
            for index, name in _items(test, key):
                if name in seen:
                    yield _hit(test, key, f"{name!r} stands twice among its {key}", item=index)
                seen.add(name)


@rule("PV-STATUS-001", ERROR, "the status of a test is a level")
def status(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.status is not None and level_named(test.status) is None:
            yield _hit(test, "status", f"{test.status!r} is no level", nearest(test.status.upper(), tuple(Level)))


@rule("PV-TOL-001", ERROR, "a tolerance says why it is what it is")
def unreasoned_tolerance(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.tolerance is not None and not test.tolerance.because.strip():
            hint = "because: the floor that was measured, and where"
            yield _hit(test, "tolerance", "its tolerance gives no reason", hint)


@rule("PV-TOL-002", ERROR, "a tolerance names its metric, and a limit that is a finite number, 0 or more")
def tolerance_limit(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.tolerance is None:
            continue
        limit = test.tolerance.limit
        if not test.tolerance.metric.strip():
            yield _hit(test, "tolerance", "its tolerance names no metric", "metric: nmse")
        if limit is None or not 0 <= limit < math.inf:
            shown = "missing" if limit is None else limit
            item = "limit" if limit is not None else None
            yield _hit(test, "tolerance", f"the limit of its tolerance is {shown}", "limit: 1.0e-4", item)


@run_rule("PV-DUP-001", ERROR, "no two contracts of a run have the same file name")
def same_stem(contracts: Sequence[Contract]) -> Iterator[tuple[Contract, Hit]]:
    first: dict[str, Contract] = {}
    for contract in contracts:
        other = first.setdefault(contract.stem, contract)
        if other is not contract:
            ours = any(test.ours for test in (*contract.tests, *other.tests))
            hint = "evidence is kept under the file's name: rename one"
            yield contract, Hit((), f"{other.path} has the same name", hint, not ours)


@run_rule("PV-DUP-002", WARNING, "no falsification test of a run has the id of one in another contract")
def same_id_elsewhere(contracts: Sequence[Contract]) -> Iterator[tuple[Contract, Hit]]:
    first: dict[str, tuple[Contract, FalsificationTest]] = {}
    for contract in contracts:
        for test in contract.tests:
            other, its = first.setdefault(test.id, (contract, test))
            if test.id and other is not contract:
                yield contract, Hit(test.entry.at("id"), f"the id {test.id} is taken in {other.path}:{its.line}")


def _items(test: FalsificationTest, key: str) -> Iterator[tuple[int, str]]:
    """The texts in a list of the test, with their places in it."""
    items = test.entry.raw.get(key)
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, str):
            yield index, item
