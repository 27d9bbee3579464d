"""`pv diff`: what changed between two versions of contracts, and whether their version numbers say so.

A contract whose bytes are the same in both versions is unchanged, and nothing more is asked of it. Any other is
compared if both versions are accepted by the rules of `pv validate` about one contract: what breaks them may mean
anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pv import semver, yaml_loader
from pv.contract import Contract, make_contract
from pv.diff_sides import File, Pair, Problem, pairs
from pv.diff_walk import Change, changes
from pv.errors import PvError
from pv.findings import ERROR
from pv.rules import check
from pv.semver import Size
from pv.validate import ACCEPT, DECLINE, REJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A contract in both versions, or in the only one that has it.

    old, new   how its files are named to the reader; None where that version lacks the contract
    needed     what the changes ask for
    announced  what the step between the version numbers says; None where there is no step
    least      the first version that says enough; empty where none can be named
    why        what is wrong with the step; empty where it says enough
    """

    stem: str
    old: str | None
    new: str | None
    old_version: str
    new_version: str
    changes: tuple[Change, ...]
    needed: Size
    announced: Size | None
    least: str
    why: str

    @property
    def enough(self) -> bool:
        return not self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a run.

    same      how many contracts have the same bytes in both versions
    declined  (file, reason) of those that were not compared
    """

    compared: tuple[Comparison, ...]
    same: int
    declined: tuple[Problem, ...]

    @property
    def code(self) -> int:
        if not all(found.enough for found in self.compared):
            return REJECT
        return DECLINE if self.declined or not (self.compared or self.same) else ACCEPT


def diff(old: str, others: Sequence[str], here: Path, piped: bytes | None = None) -> Verdict:
    """Compare what pv.diff_sides.pairs finds; PvError as there."""
    found, declined = pairs(old, others, here, piped)
    compared, same = [], 0
    for pair in found:
        before, after, renamed = pair
        if before and after and before.data is not None and before.data == after.data and not renamed:
            same += 1
        else:
            comparison, problems = _compared(pair)
            compared += comparison
            declined += problems
    return Verdict(compared=tuple(compared), same=same, declined=tuple(declined))


def _compared(pair: Pair) -> tuple[list[Comparison], list[Problem]]:
    """The comparison of a pair, or why there is none."""
    old, new, renamed = pair
    contracts: list[Contract | None] = []
    problems: list[Problem] = []
    for file in (old, new):
        try:
            contracts.append(valid(file) if file else None)
        except PvError as error:
            assert file is not None
            where = error.where if error.where.startswith(file.label) else file.label
            problems.append((where, str(error.args[0])))
    if problems:
        return [], problems
    before, after = contracts
    if old and new and before and after:
        return [compare(before, after, (old.label, new.label), renamed=renamed)], []
    if new and after:
        return [added(after, new.label)], []
    assert old is not None
    assert before is not None
    return [removed(before, old.label)], []


def valid(file: File) -> Contract:
    """The contract in a file of one version. PvError where it cannot be read, or breaks a rule."""
    if file.data is None:
        raise PvError(file.problem, where=file.label)
    contract = make_contract(file.path, yaml_loader.load(file.data, file.label))
    errors = [found for found in check(contract) if found.severity == ERROR]
    if errors:
        first = errors[0]
        more = f" ({len(errors) - 1} more: see pv validate)" if len(errors) > 1 else ""
        what = f"is no valid contract: {first.rule}: {first.message}{more}"
        raise PvError(what, where=f"{file.label}:{first.line}:{first.column}")
    return contract


def compare(old: Contract, new: Contract, labels: tuple[str, str], *, renamed: bool = False) -> Comparison:
    """Two versions of a contract. renamed: its file has another name, by which others refer to it."""
    found = changes(old, new)
    if renamed:
        change = Change(
            size=Size.MAJOR,
            what="changed",
            place="the file's name",
            line=1,
            in_new=True,
            old=old.stem,
            new=new.stem,
            why="others refer to a contract by it",
        )
        found.insert(0, change)
    needed = max((change.size for change in found), default=Size.NONE)
    announced, least, why = judged(old.version, new.version, needed)
    return Comparison(
        stem=new.stem,
        old=labels[0],
        new=labels[1],
        old_version=old.version,
        new_version=new.version,
        changes=tuple(found),
        needed=needed,
        announced=announced,
        least=least,
        why=why,
    )


def judged(old: str, new: str, needed: Size) -> tuple[Size | None, str, str]:
    """What the step between two versions announces, the first version that announces enough, and what is wrong."""
    before, after = semver.version(old), semver.version(new)
    least = str(semver.least(before, needed)) if before else ""
    if needed is Size.NONE and (old == new or (before is None and after is not None)):
        return Size.NONE, least, ""  # where nothing else changed, a version may be put right
    for text, known in ((old, before), (new, after)):
        if known is None:
            return None, least, f"{text!r} is no semantic version"
    assert before is not None
    assert after is not None
    if after < before:
        return Size.NONE, least, "the version goes down"
    announced = semver.step(before, after)
    why = f"the version announces {_words(announced)}" if announced < needed else ""
    return announced, least, why


def _words(size: Size) -> str:
    return "no change" if size is Size.NONE else f"a {size.word} change"


def added(new: Contract, label: str) -> Comparison:
    """A contract that the old version lacks: all of it is promised in addition, under a version of its own."""
    return Comparison(
        stem=new.stem,
        old=None,
        new=label,
        old_version="",
        new_version=new.version,
        changes=(),
        needed=Size.MINOR,
        announced=None,
        least="",
        why="" if semver.version(new.version) else f"{new.version!r} is no semantic version",
    )


def removed(old: Contract, label: str) -> Comparison:
    """A contract that the new version lacks. No version is left to announce that: it must have been retired before."""
    metadata = old.root.entry("metadata")
    retired = metadata is not None and metadata.text("status").strip().upper() == "RETIRED"
    return Comparison(
        stem=old.stem,
        old=label,
        new=None,
        old_version=old.version,
        new_version="",
        changes=(),
        needed=Size.MAJOR,
        announced=None,
        least="",
        why="" if retired else "what it promised is withdrawn, and no version is left to announce that",
    )
