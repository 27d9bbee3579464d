"""What a falsification test binds: the trials that it plans, and the digests that these are about today.

The pytest plugin runs the planned trials and records them under these digests; pv.levels believes the records that
carry the digests of today. Both read them from here, so they cannot disagree.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pv.canonical import digest, sha256
from pv.closure import code_digest, package_digests, variables
from pv.config import Config, registered
from pv.contract import TARGET, Contract, FalsificationTest
from pv.errors import PvError
from pv.statement import ModelSubject, suffix
from pv.vocabulary import COVERS
from pv.words import ROLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One trial that the contract asks for."""

    role: str
    falsifier: str  # 'module:function'
    model: str | None = None  # registered name; None for algorithm trials
    mutant: str | None = None  # name of the planted defect

    @property
    def suffix(self) -> str:
        """What stands in the brackets of the node id."""
        return suffix(self.role, self.model, self.mutant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A falsification test with falsifiers, and the digests of today.

    planned  role by role: the trials of each model in the contract's order, then those of each mutant
    claim    sha256 of what is promised; code: by falsifier, sha256 of its import closure; models: by name
    variables  by falsifier, the environment variables that its import closure declares
    packages by falsifier, the digest of each first-party package's part of that closure
    limit    of the tolerance that the test states, or None
    document  the file of the contract, where the claim covers all of it
    """

    contract: str
    test: str
    planned: tuple[Planned, ...]
    claim: str
    code: Mapping[str, str]
    models: Mapping[str, ModelSubject]
    packages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: float | None = None
    document: Path | None = None


def bind(contract: Contract, test: FalsificationTest, config: Config) -> Binding | None:
    """The binding of a test, or None where it names no falsifiers.

    PvError, naming the line, for a falsifier that is no 'module:function', an unknown role, a module that is missing or
    not first-party, a model that is not registered, a name that stands twice, a model role without models, a word
    after `covers` that is not known, and the file of a floor that cannot be read.
    """
    if not test.falsifiers:
        return None
    where = f"{contract.path}:{test.line}"
    planned = tuple(_planned(test, where))
    models = {name: registered(config, name, where=where) for name in test.models}
    return Binding(
        contract=contract.stem,
        test=test.id,
        planned=planned,
        claim=claim_digest(contract, test, _floor(test, config, where)),
        code={falsifier: _code(falsifier, config, where) for falsifier in dict.fromkeys(p.falsifier for p in planned)},
        packages={one: package_digests(one.partition(":")[0], config) for one in {plan.falsifier for plan in planned}},
        variables={one: variables(one.partition(":")[0], config) for one in {plan.falsifier for plan in planned}},
        models={name: ModelSubject(name=name, sha256=model.sha256) for name, model in models.items()},
        limit=test.tolerance.limit if test.tolerance else None,
        document=Path(contract.path).absolute() if test.covers else None,
    )


def claim_digest(contract: Contract, test: FalsificationTest, floor: str | None = None) -> str:
    """sha256 of the contract's id, the test without its status, the equation it binds to, the obligations it names.

    floor: the sha256 of the file of the floor that the test's tolerance is held to; it belongs to the claim, too.

    With `covers: document` the promise is about the whole contract, and so is the digest: every value of the document
    belongs to it, but for what `pv promote` writes, which is the status of each test, metadata.version and
    verification_summary. Promotion makes no new claim, so it leaves evidence fresh.
    """
    claim = {
        "contract": contract.stem,
        "test": _without(test.raw, "status"),
        "equation": contract.equations.get(test.binds_to) if test.binds_to else None,
        "obligations": [
            entry.raw for entry in contract.root.entries("proof_obligations") if entry.text("id") in test.obligations
        ],
    }
    if floor is not None:
        claim["floor"] = floor
    if test.covers:
        claim["document"] = _unpromoted(contract.document.value)
    return digest(claim, where=f"{contract.path}:{test.line}")


def _unpromoted(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what promotion writes."""
    kept = _without(document, "verification_summary")
    if isinstance(kept.get("metadata"), dict):
        kept["metadata"] = _without(kept["metadata"], "version")
    if isinstance(tests := kept.get("falsification_tests"), list):
        kept["falsification_tests"] = [_without(test, "status") if isinstance(test, dict) else test for test in tests]
    return kept


def _without(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


@functools.cache
def seed_of(contract: str, test: str, role: str, model: str | None) -> int:
    """The seed of a trial, 32 bits, from its names: every run tries the same, and a mutant what its role tries."""
    return int(digest([contract, test, role, model])[:8], 16)


def _planned(test: FalsificationTest, where: str) -> list[Planned]:
    covers = test.raw.get("covers")
    if covers is not None and covers not in COVERS:
        hint = f"known: {', '.join(COVERS)}; without it, the test covers what it names"
        raise PvError(f"{test.id}: cannot cover {covers!r}", where=where, hint=hint)
    for role, target in test.falsifiers.items():
        if role not in ROLES:
            raise PvError(f"{test.id}: no role {role!r}", where=where, hint=f"roles: {', '.join(ROLES)}")
        if not TARGET.fullmatch(target):
            raise PvError(f"{test.id}: {role}: {target!r} is no 'module:function'", where=where)
        if role != "algorithm" and not test.models:
            raise PvError(f"{test.id}: {role} needs models to run on", where=where, hint="name one: models: [..]")
    for kind, names in (("mutant", test.mutants), ("model", test.models)):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise PvError(f"{test.id}: {kind} {twice!r} stands twice", where=where)
    planned = []
    for role in ROLES:
        if falsifier := test.falsifiers.get(role):
            models: tuple[str | None, ...] = (None,) if role == "algorithm" else test.models
            planned += [Planned(role=role, falsifier=falsifier, model=model) for model in models]
            planned += [Planned(role=role, falsifier=falsifier, model=models[0], mutant=name) for name in test.mutants]
    return planned


def _floor(test: FalsificationTest, config: Config, where: str) -> str | None:
    """The sha256 of the file of the floor that the tolerance names, if it names one."""
    if test.tolerance is None or test.tolerance.floor is None:
        return None
    from pv.floor import read_bytes

    try:
        return sha256(read_bytes(test.tolerance.floor, config.root))
    except PvError as error:
        raise PvError(f"{test.id}: {error.args[0]}", where=where, hint=error.hint) from None


def _code(falsifier: str, config: Config, where: str) -> str:
    try:
        return code_digest(falsifier.partition(":")[0], config)
    except PvError as error:
        if error.where:
            raise
        raise PvError(str(error.args[0]), where=where, hint=error.hint) from None
