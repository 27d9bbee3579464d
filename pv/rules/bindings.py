"""Rules of `pv lint` about binding registries, where a run finds one; those of the public tool under its ids."""

from collections.abc import Iterator, Sequence

from pv.bindings import Registry
from pv.facts import Facts
from pv.findings import ERROR, WARNING, Hit, run_rule
from pv.shapes import nearest


@run_rule(
    "BIND-001", ERROR, "each equation has a binding, in contracts that a registry names and in kernels", lint=True
)
def unbound(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    for contract in contracts:
        if any(registry.faults for registry in contract.registries):
            continue  # PV-BIND-002 rejects them: what is bound is not known
        entries = [found for registry in contract.registries for found in registry.bindings]
        bound = {found.equation.name for found in entries if found.stem == contract.stem}
        files = ", ".join(str(registry.path) for registry in contract.registries)
        if not bound and contract.registries and contract.equations and contract.kind == "kernel":
            what = f"no binding names the contract, and so none of its equations: there are {len(contract.equations)}"
            yield contract, Hit(contract.equations[0].at, what, f"looked for in {files}")
        for equation in contract.equations if bound else ():
            if equation.name not in bound:
                hint = f"enter the function that computes it, or status: not_implemented, into {files}"
                yield contract, Hit(equation.at, f"equation {equation.name!r} has no binding", hint)


@run_rule("BIND-002", WARNING, "no binding is partial", lint=True)
def partial(contracts: Sequence[Facts]) -> Iterator[tuple[Registry, Hit]]:
    yield from _with_status(contracts, "partial", "only in part")


@run_rule("BIND-003", WARNING, "no binding waits for its implementation", lint=True)
def missing(contracts: Sequence[Facts]) -> Iterator[tuple[Registry, Hit]]:
    yield from _with_status(contracts, "not_implemented", "by nothing")
    yield from _with_status(contracts, "pending", "by nothing yet")


@run_rule("PV-BIND-001", ERROR, "a binding names a contract that is there, and an equation of it", lint=True)
def dangling(contracts: Sequence[Facts]) -> Iterator[tuple[Registry, Hit]]:
    for registry, near in _registries(contracts).items():
        equations: dict[str, set[str]] = {}
        for contract in near:
            equations.setdefault(contract.stem, set()).update(equation.name for equation in contract.equations)
        everywhere = {contract.stem for contract in contracts}
        for binding in registry.bindings:
            known = equations.get(binding.stem)
            if known is not None and binding.equation.name not in known:
                what = f"{binding.stem} has no equation {binding.equation.name!r}"
                yield registry, Hit(binding.equation.at, what, nearest(binding.equation.name, sorted(known)))
            elif known is None and not binding.found and binding.stem not in everywhere:
                what = f"there is no contract {binding.contract.name!r}"
                yield registry, Hit(binding.contract.at, what, nearest(binding.stem, sorted(everywhere)))


@run_rule("PV-BIND-002", ERROR, "a binding registry can be read, and so can each of its bindings", lint=True)
def malformed(contracts: Sequence[Facts]) -> Iterator[tuple[Registry, Hit]]:
    for registry in _registries(contracts):
        for fault in registry.faults:
            yield registry, Hit(fault.at, fault.message, fault.hint)


def _registries(contracts: Sequence[Facts]) -> dict[Registry, list[Facts]]:
    """The registries of a run, each with the contracts that it counts for."""
    found: dict[Registry, list[Facts]] = {}
    for contract in contracts:
        for registry in contract.registries:
            found.setdefault(registry, []).append(contract)
    return found


def _with_status(contracts: Sequence[Facts], status: str, how: str) -> Iterator[tuple[Registry, Hit]]:
    """The bindings of a status, among those of equations of contracts of the run."""
    for registry, near in _registries(contracts).items():
        known = {(contract.stem, equation.name) for contract in near for equation in contract.equations}
        for binding in registry.bindings:
            if binding.status.name == status and (binding.stem, binding.equation.name) in known:
                what = f"equation {binding.equation.name!r} of {binding.stem} is implemented {how}"
                yield registry, Hit(binding.status.at, what)
