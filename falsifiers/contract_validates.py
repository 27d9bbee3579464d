"""Falsifier of the promise that the trace contract is itself a valid contract: FALSIFY-APR-TRACE-SAVE-007.

A module of its own: evidence about the engine must not become stale when the validator changes.
"""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from pv.trial import Finished, Trial, mutant, patched

CONTRACT = Path(__file__).parents[1] / "contracts" / "apr-cli-trace-save-tensor-v1.yaml"


def contract_validates(trial: Trial) -> None:
    """`pv validate` accepts this contract and rejects copies of it that lack what a contract must have."""
    done = validate(trial, CONTRACT)
    trial.check(done.code == 0, f"pv validate exits with {done.code}: {done.last_line}")
    text = CONTRACT.read_text(encoding="utf-8")
    damages = {
        "no prediction": ("prediction:", "prediction: ''\n    was_prediction:"),
        "no references": ("  references:", "  references: []\n  was_references:"),
        "a duplicate key": ("metadata:\n", "metadata:\n  version: '1.0.0'\n"),
    }
    for name, (old, new) in damages.items():
        trial.check(old in text, f"the damage {name!r} does not apply to the contract")
        copy = trial.folder / CONTRACT.name
        copy.write_text(text.replace(old, new, 1), encoding="utf-8")
        done = validate(trial, copy)
        trial.check(done.code == 1, f"a contract with {name} exits with {done.code}, not 1: {done.last_line}")


def validate(trial: Trial, contract: Path) -> Finished:
    """`pv validate`, which must not remember what a planted defect makes it find."""
    return trial.start("pv", "pv.cli:main", "validate", contract, env={"PV_CACHE_DIR": os.devnull})


@mutant
def validator_finds_nothing() -> Iterator[None]:
    """The validator reports no finding, whatever it sees."""
    module = importlib.import_module("pv.validate")
    with patched(module, "_findings", lambda *args, **kwargs: []):
        yield
