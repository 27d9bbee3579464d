"""What became of the trials of a test between two versions: fewer comparisons, other defects, another falsifier.

A falsifier that is weakened together with its mutants is green, and its evidence is fresh. What shows is here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pv import markdown
from pv.binding import Binding, Planned
from pv.config import Config
from pv.definitions import Written, written
from pv.status import Row, shown
from pv.words import ROLES

Pair = tuple[Row, Row]
"""A test in two versions of its project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A falsifier whose code changed, for a reviewer to look at: (base, head) of its name and its comparisons.

    comparisons  of its trials without a planted defect; None where no evidence of today says how many
    """

    contract: str
    test: str
    path: str
    line: int
    role: str
    falsifier: tuple[str, str]
    comparisons: tuple[int | None, int | None]

    @property
    def words(self) -> str:
        was, now = self.falsifier
        name = was if was == now else f"{was} -> {now}"
        numbers = " -> ".join("not known" if one is None else str(one) for one in self.comparisons)
        return f"{self.test}: the code of the {self.role} falsifier {name} changed; comparisons {numbers}"


def fewer_comparisons(old: Row, new: Row) -> list[tuple[str, int, int]]:
    """(trial, base, head) where what supports a trial that both versions have compared less than it did."""
    was, now = old.earned.comparisons, new.earned.comparisons
    trials = [plan.suffix for plan, _ in _planned((old, new))]
    return [(one, was[one], now[one]) for one in trials if one in was and one in now and now[one] < was[one]]


def lost_packages(old: Row, new: Row) -> dict[str, list[str]]:
    """By first-party package, the roles whose falsifier's digest covered its code, and covers none of it now.

    Of roles that a record of the old version supports. Code that is still covered may have changed: that is no loss.
    """
    found: dict[str, list[str]] = {}
    for was, now in _planned((old, new)):
        if was.suffix in old.earned.comparisons and old.binding and new.binding:
            today = new.binding.packages.get(now.falsifier, {})
            for package in old.binding.packages.get(was.falsifier, {}):
                if package not in today and was.role not in found.setdefault(package, []):
                    found[package].append(was.role)
    return found


def changed_mutants(pair: Pair, configs: tuple[Config, Config]) -> list[tuple[str, str]]:
    """The planted defects of both versions whose code changed, each with its place 'file:line' in the new one."""
    found: dict[str, str] = {}
    for was, now in _planned(pair):
        if was.mutant is None or now.mutant in found:
            continue
        if (differs := _differs(pair, (was, now), (was.mutant, was.mutant), configs)) is not None:
            found[was.mutant] = differs
    return list(found.items())


def changed_falsifiers(pairs: Sequence[Pair], configs: tuple[Config, Config]) -> Iterator[Changed]:
    """The falsifiers of tests that both versions have whose code changed, with its helpers."""
    for pair in pairs:
        for role in ROLES:
            plans = next((plans for plans in _planned(pair) if plans[0].role == role), None)
            if plans is None:
                continue
            names = (plans[0].falsifier.partition(":")[2], plans[1].falsifier.partition(":")[2])
            if _differs(pair, plans, names, configs) is not None:
                row = pair[1]
                yield Changed(
                    contract=row.contract.stem,
                    test=row.test.id,
                    path=shown(row.contract.path, configs[1].root),
                    line=row.test.line,
                    role=role,
                    falsifier=(plans[0].falsifier, plans[1].falsifier),
                    comparisons=(_made(pair[0], role), _made(pair[1], role)),
                )


def _planned(pair: Pair) -> Iterator[tuple[Planned, Planned]]:
    """The trials that both versions plan."""
    old, new = (row.binding for row in pair)
    if old and new:
        now = {plan.suffix: plan for plan in new.planned}
        yield from ((plan, now[plan.suffix]) for plan in old.planned if plan.suffix in now)


def _differs(
    pair: Pair, plans: tuple[Planned, Planned], names: tuple[str, str], configs: tuple[Config, Config]
) -> str | None:
    """Where a function of the falsifier's module is in the new version, if it is not written as it was, else None.

    A function that the text does not show, as one that a star import brings, counts as changed with any of the code.
    """
    digests = [_code(row.binding, plan) for row, plan in zip(pair, plans, strict=True)]
    if digests[0] == digests[1] and names[0] == names[1]:
        return None
    was, now = (
        written(plan.falsifier.partition(":")[0], name, config)
        for plan, name, config in zip(plans, names, configs, strict=True)
    )
    if was and now and was.trees == now.trees:
        return None
    return _place(now, plans[1], configs[1])


def _code(binding: Binding | None, plan: Planned) -> str:
    assert binding is not None
    return binding.code[plan.falsifier]


def _place(now: Written | None, plan: Planned, config: Config) -> str:
    return f"{shown(now.file, config.root)}:{now.line}" if now else plan.falsifier.partition(":")[0]


def _made(row: Row, role: str) -> int | None:
    """How many comparisons the trials of a role made on all models together."""
    binding = row.binding
    trials = [plan.suffix for plan in binding.planned if plan.role == role and not plan.mutant] if binding else []
    made = [row.earned.comparisons.get(trial) for trial in trials]
    return None if None in made else sum(one for one in made if one is not None)


def as_markdown(changed: Sequence[Changed]) -> list[str]:
    """The lines that show a reviewer which falsifiers changed; none where none did."""
    rows = [[markdown.code(f"{one.path}:{one.line}"), markdown.text(one.words)] for one in changed]
    return ["For the reviewer:", "", *markdown.table(("where", "what"), rows), ""] if rows else []


def as_mapping(one: Changed) -> dict[str, Any]:
    """For JSON."""
    return {
        "path": one.path,
        "line": one.line,
        "contract": one.contract,
        "test": one.test,
        "role": one.role,
        "base": one.falsifier[0],
        "head": one.falsifier[1],
        "comparisons_base": one.comparisons[0],
        "comparisons_head": one.comparisons[1],
    }
