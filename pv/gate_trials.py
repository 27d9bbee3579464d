"""The checks of `pv gate` about trials that were weakened under their old names, and have new evidence."""

import json
from collections.abc import Iterator
from dataclasses import replace

from pv.config import Config
from pv.gate_sides import CHANGED_MUTANT, FEWER, LOST_CODE, Finding, Sides, accepting
from pv.trial_changes import changed_mutants, fewer_comparisons, lost_packages

SHOWN = 4
"""How many trials a message names."""


def weakened(sides: Sides, configs: tuple[Config, Config]) -> Iterator[Finding]:
    """Tests whose trials compare less than they did, plant other defects under the old names, or know less code."""
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
        for package, roles in lost_packages(old, new).items():
            what = f"{name}: the evidence of {', '.join(roles)} no longer names the code of {package}"
            hint = f"import it from the project again, or accept it: {accepting(contract, name, LOST_CODE)}"
            hint += (
                f", or one of [[tool.pv.changelog]] with a reason and accepts = [{json.dumps(first_party(package))}]"
            )
            found = sides.at(
                contract, new.test.line, LOST_CODE, name, f"{what}: a change of it would not be noticed", hint
            )
            yield replace(found, package=package)


def first_party(package: str) -> str:
    """What the changelog of the project calls a package that is taken out of the digests."""
    return f"first-party {package}"
