"""`pv promote`: the edit that makes a contract state what it has earned, and leaves every other byte as it was.

Written are the status of tests, verification_summary, and metadata.version (a minor bump, when anything else changed).
The edit is made by pv.edit: unless exactly the intended values differ, nothing is written.
"""

from collections.abc import Sequence

from pv.contract import Contract
from pv.edit import Change, edited, replace
from pv.errors import PvError
from pv.excerpt import printable
from pv.semver import version as semver
from pv.status import Row, Survey, shown
from pv.status_report import denominators
from pv.words import Level

COUNTED = (("l2_property_tested", 1), ("bound", 1), ("total_obligations", -1), ("falsification_tests", -1))
"""Counts of a summary that flatter where they are too large (1), and those that do where they are too small (-1)."""


def changes(contract: Contract, rows: Sequence[Row]) -> list[Change]:
    """What has to be written into a contract so that it states what its tests earned; empty when it does already.

    A test without falsifiers earns nothing: a level that it states falls, any other word is left to its author. A
    contract of such tests only gets no verification_summary. PvError where the version is no semantic version.
    """
    value, found = contract.document.value, []
    for row in rows:
        due = row.stated is not row.earned.level if row.bound else row.overclaimed
        if due:
            entry = row.test.entry
            found.append(Change(entry.at("status"), row.earned.level.value, entry.raw.get(entry.key("status"))))
    if any(row.bound for row in rows):
        summary = value.get("verification_summary")
        if summary is not None and not isinstance(summary, dict):
            raise PvError("verification_summary must be a mapping", where=str(contract.path))
        for key, number in verification_summary(contract, rows).items():
            old = (summary or {}).get(key)
            if type(old) is not int or old != number:
                found.append(Change(("verification_summary", key), number, old))
    if found:
        metadata = value.get("metadata")
        version = metadata.get("version") if isinstance(metadata, dict) else None
        found.append(Change(("metadata", "version"), bumped(version, str(contract.path)), version))
    return found


def verification_summary(contract: Contract, rows: Sequence[Row]) -> dict[str, int]:
    """Computed counts, under the keys that public readers know (the first two) and our own.

    l2_property_tested  obligations that a test names which earned PARTIAL_ALGORITHM_LEVEL or more
    """
    tested = {name for row in rows if row.earned.level.worth >= Level.PARTIAL.worth for name in row.test.obligations}
    ids = [entry.text("id") for entry in contract.root.entries("proof_obligations")]
    return {
        "total_obligations": len(ids),
        "l2_property_tested": sum(name in tested for name in ids),
        "falsification_tests": len(rows),
        "bound": sum(row.bound for row in rows),
        **{level.value.lower(): sum(row.earned.level is level for row in rows) for level in Level},
    }


def overstated(found: Survey) -> list[str]:
    """Contracts whose verification_summary says more than is so: the first thing of each.

    It counts more tests at a level, or above it, than have earned it; or, where a test names falsifiers, more that is
    bound or tested than there is, or less of what it is to be measured by.
    """
    reasons = []
    for contract in found.contracts:
        rows = [row for row in found.rows if row.contract is contract]
        typed = contract.document.value.get("verification_summary")
        computed = verification_summary(contract, rows)
        above = [Level.DISCHARGED, Level.FUNCTIONAL, Level.PARTIAL]
        for count in range(1, 4):
            keys = [level.value.lower() for level in above[:count]]
            numbers = [typed.get(key, 0) if isinstance(typed, dict) else 0 for key in keys]
            claims = sum(max(0, number) for number in numbers if isinstance(number, int))
            proven = sum(computed[key] for key in keys)
            if claims > proven:
                reasons.append(
                    f"{contract.path}: its summary counts {claims} tests of {keys[-1]} or above, {proven} earned it"
                )
                break
        else:
            for key, sign in COUNTED if isinstance(typed, dict) and any(row.bound for row in rows) else ():
                number = typed.get(key)
                if type(number) is int and sign * number > sign * computed[key]:
                    reasons.append(f"{contract.path}: its summary says {key}: {number}, pv counts {computed[key]}")
                    break
    return reasons


def bumped(version: object, where: str) -> str:
    """The next minor version: 1.2.3 -> 1.3.0."""
    known = semver(version) if isinstance(version, str) else None
    if known is None:
        raise PvError(
            f"metadata.version must be a semantic version, not {version!r}", where=where, hint="write it as 1.0.0"
        )
    return f"{known.major}.{known.minor + 1}.0"


def promote(found: Survey) -> list[tuple[Contract, list[Change]]]:
    """The contracts that do not state what they have earned, each with its changes."""
    due = []
    for contract in found.contracts:
        due.append((contract, changes(contract, [row for row in found.rows if row.contract is contract])))
    return [(contract, edits) for contract, edits in due if edits]


def write(contract: Contract, edits: Sequence[Change]) -> None:
    """Make the edits in the contract's file. PvError, and the file untouched, where that cannot be done cleanly."""
    where = str(contract.path)
    before = contract.document.text
    replace(contract.path, before, edited(before, edits, where), hint="promote again")


def as_text(found: Survey, due: Sequence[tuple[Contract, Sequence[Change]]]) -> str:
    """Every test as stated -> earned with the reasons, then the edits, what could not be read, and the totals."""
    lines = []
    for row in found.rows:
        stated = row.stated.value if row.stated else str(row.test.status)
        level = row.earned.level
        arrow = "=" if row.stated is level else "->"
        once = f" (was {row.earned.once.value})" if row.earned.once is not Level.UNTESTED else ""
        lines.append(f"{row.contract.stem}::{row.test.id}: {stated} {arrow} {level.value}{once}")
        lines += [f"    {reason}" for reason in row.earned.reasons]
    for contract, edits in due:
        lines.append(shown(contract.path, found.root))
        lines += [
            f"    {_name(contract, edit)}: {edit.old if edit.old is not None else '-'} -> {edit.new}" for edit in edits
        ]
    lines += [f"unreadable: {shown(problem.path, found.root)}: {problem.why}" for problem in found.problems]
    return "\n".join([*map(printable, lines), denominators(found)])


def _name(contract: Contract, edit: Change) -> str:
    """`FALSIFY-X-001.status`: the index of a test says nothing to a reader."""
    if edit.place[0] == "falsification_tests":
        test = next(test for test in contract.tests if test.index == edit.place[1])
        return f"{test.id}.{edit.place[-1]}"
    return ".".join(map(str, edit.place))
