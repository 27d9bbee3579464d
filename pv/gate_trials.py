"""The checks of `pv gate` about trials that were weakened under their old names, and have new evidence."""

from collections.abc import Iterator

from pv.config import Config
from pv.gate_sides import CHANGED_MUTANT, FEWER, Finding, Sides, accepting
from pv.trial_changes import changed_mutants, fewer_comparisons

SHOWN = 4
"""How many trials a message names."""


def weakened(sides: Sides, configs: tuple[Config, Config]) -> Iterator[Finding]:
    """Tests whose trials compare less than they did, or plant other defects under the old names."""
    for _, old, new in sides.pairs:
        name, contract = new.test.id, new.contract
        if fewer := fewer_comparisons(old, new):
            told = ", ".join(f"{trial} {was} -> {now}" for trial, was, now in fewer[:SHOWN])
            told += f" and {len(fewer) - SHOWN} more" * (len(fewer) > SHOWN)
            hint = f"compare again what was compared, or accept it: {accepting(contract, name, FEWER)}"
            yield sides.at(
                contract, new.test.line, FEWER, name, f"{name} makes fewer comparisons than it did: {told}", hint
            )
        if changed := changed_mutants((old, new), configs):
            told = ", ".join(f"{mutant} ({place})" for mutant, place in changed)
            what = f"{name}: the planted defect{'s' if len(changed) > 1 else ''} {told}"
            hint = f"plant it as it was, under its name, or accept it: {accepting(contract, name, CHANGED_MUTANT)}"
            verb = "were" if len(changed) > 1 else "was"
            yield sides.at(contract, new.test.line, CHANGED_MUTANT, name, f"{what} {verb} changed", hint)
