"""Rules about a contract and the project around it: what runs, on which models, and what the evidence is worth.

No falsifier is run, and nothing is imported but by PV-RUN-011, which `pv lint --import` asks. A contract that lies in
no project (a copy in a temporary folder, say) is not held to what is not there: one note says what was not looked at.
"""

from collections.abc import Iterator

from pv.contract import TARGET, Contract, FalsificationTest
from pv.errors import PvError
from pv.findings import ERROR, NOTE, WARNING, Hit, project_rule
from pv.places import shown
from pv.project import Project
from pv.rules.own import hit_in, items
from pv.shapes import nearest
from pv.words import ROLES


def _falsifiers(
    contract: Contract, project: Project, *, reached: bool = True
) -> Iterator[tuple[FalsificationTest, str, str, str]]:
    """What the tests name: (test, role, module, function); what can be looked for, or what lies out of reach."""
    for test in contract.tests:
        for role, target in test.falsifiers.items():
            if role in ROLES and TARGET.fullmatch(target):
                module, _, name = target.partition(":")
                if reached is (project.marked or module.partition(".")[0] in project.config.first_party):
                    yield test, role, module, name


@project_rule("PV-RUN-007", ERROR, "a falsifier is a function of a first-party module")
def falsifiers_exist(contract: Contract, project: Project) -> Iterator[Hit]:
    from pv import resolve

    for test, role, module, name in _falsifiers(contract, project):
        try:
            found = project.sources.meaning(module, name)
            if found.kind == resolve.MISSING:
                hint = nearest(name, project.sources.names(module, resolve.FUNCTION))
                yield hit_in(test, "falsifiers", f"no function {name!r} in {module}", hint, role)
            elif found.kind == resolve.MUTANT:
                hint = "a mutant plants a defect; name the function that must notice it"
                yield hit_in(test, "falsifiers", f"{module}:{name} is a mutant, not a falsifier", hint, role)
            elif found.kind == resolve.OTHER:
                yield hit_in(test, "falsifiers", f"{module}:{name} is no falsifier but {found.why}", "", role)
            elif found.kind == resolve.FOREIGN:
                hint = "write a function in a first-party module that calls it"
                yield hit_in(test, "falsifiers", f"{module}:{name} is no falsifier of ours: {found.why}", hint, role)
        except PvError as error:
            yield hit_in(test, "falsifiers", _in_one_line(error), error.hint, role)


@project_rule("PV-RUN-008", ERROR, "a mutant is made by @mutant, in the module of each falsifier that must catch it")
def mutants_exist(contract: Contract, project: Project) -> Iterator[Hit]:
    from pv import resolve

    for test, index, mutant, module in _planted(contract, project):
        try:
            found = project.sources.meaning(module, mutant)
            if found.kind == resolve.MISSING:
                hint = nearest(mutant, project.sources.names(module, resolve.MUTANT))
                yield hit_in(test, "mutants", f"no mutant {mutant!r} in {module}", hint, index)
            elif found.kind == resolve.MUTANT and found.why:
                hint = "a mutant is a generator function with a docstring that plants its defect around one yield"
                yield hit_in(test, "mutants", f"the mutant {module}:{mutant} {found.why}", hint, index)
            elif found.kind == resolve.OTHER or (found.kind == resolve.FUNCTION and not found.why):
                hint = "decorate it with @mutant of pv.trial"
                yield hit_in(test, "mutants", f"{module}:{mutant} is no mutant", hint, index)
        except PvError:
            continue  # PV-RUN-007 says so where the module is named


@project_rule("PV-RUN-009", NOTE, "what a test runs can be told without importing it")
def cannot_be_told(contract: Contract, project: Project) -> Iterator[Hit]:
    from pv import resolve

    named = () if project.imports else _falsifiers(contract, project)  # else PV-RUN-011 finds out
    for test, role, module, name in named:
        try:
            found = project.sources.meaning(module, name)
        except PvError:
            continue
        if found.kind == resolve.UNKNOWN:
            what = f"whether {module}:{name} is a function cannot be told without importing it: {found.why}"
            yield hit_in(test, "falsifiers", what, "", role)
    for test, index, mutant, module in () if project.imports else _planted(contract, project):
        try:
            found = project.sources.meaning(module, mutant)
        except PvError:
            continue
        if found.kind in (resolve.UNKNOWN, resolve.FOREIGN) or (found.kind == resolve.FUNCTION and found.why):
            what = f"whether {module}:{mutant} is a mutant cannot be told without importing it: {found.why}"
            yield hit_in(test, "mutants", what, "", index)
    left = out_of_reach(contract, project)
    for first in list(left.values())[:1]:
        tests = "a test names" if len(left) == 1 else f"{len(left)} tests name"
        hint = "a project is a folder with a pyproject.toml or a .git"
        what = f"lies in no project, so what {tests} outside of it was not looked for"
        yield Hit(first.entry.at("falsifiers"), what, hint, raised=project.imports)  # nor imported, as was asked


def out_of_reach(contract: Contract, project: Project) -> dict[int, FalsificationTest]:
    """The tests, by their indices, that name falsifiers which are not looked for."""
    return {test.index: test for test, *_ in _falsifiers(contract, project, reached=False)}


def _planted(contract: Contract, project: Project) -> Iterator[tuple[FalsificationTest, int, str, str]]:
    """The mutants of each test with each module that they must lie in: (test, index, mutant, module)."""
    modules: dict[int, tuple[FalsificationTest, dict[str, None]]] = {}
    for test, _, module, _ in _falsifiers(contract, project):
        modules.setdefault(test.index, (test, {}))[1][module] = None
    for test, its in modules.values():
        for index, mutant in items(test, "mutants"):
            for module in its:
                yield test, index, mutant, module


@project_rule("PV-RUN-010", WARNING, "falsifiers and mutants that are there are written", lint=True)
def written(contract: Contract, project: Project) -> Iterator[Hit]:
    for test, role, module, name in _falsifiers(contract, project):
        if project.sources.unwritten(module, name):
            hint = "until it tries to break the promise, its trial is an error and covers nothing"
            yield hit_in(test, "falsifiers", f"{module}:{name} is not written yet", hint, role)
    for test, index, mutant, module in _planted(contract, project):
        if project.sources.unwritten(module, mutant):
            hint = "until it plants its defect, nothing shows that the falsifier would notice one"
            yield hit_in(test, "mutants", f"{module}:{mutant} is not written yet", hint, index)


@project_rule(
    "PV-RUN-011", ERROR, "falsifiers and mutants are there once their modules are imported", lint=True, imports=True
)
def imported(contract: Contract, project: Project) -> Iterator[Hit]:
    """What PV-RUN-007 and PV-RUN-008 can tell without importing is told by them."""
    from pv import resolve

    if not project.imports:
        return
    named = [each for each in _falsifiers(contract, project) if _may_be(project, *each[2:], resolve.FUNCTION)]
    planted = [each for each in _planted(contract, project) if _may_be(project, each[3], each[2], resolve.MUTANT)]
    names: dict[str, set[str]] = {}
    for _, _, module, name in (*named, *((test, index, module, name) for test, index, name, module in planted)):
        names.setdefault(module, set()).add(name)
    found = {module: project.imported(module, frozenset(its)) for module, its in names.items()}
    for test, role, module, name in named:
        if failure := found[module].failure:
            hint = "what is imported runs as for a trial: mend it until python can import it"
            yield hit_in(test, "falsifiers", f"{module} {failure}", hint, role)
            continue
        meaning = found[module].names[name]
        if meaning.kind == resolve.MISSING:
            yield hit_in(test, "falsifiers", f"no function {name!r} in {module}, once it is imported", "", role)
        elif meaning.kind != resolve.FUNCTION:
            what = meaning.why or "a mutant"
            yield hit_in(test, "falsifiers", f"{module}:{name} is no falsifier but {what}", "", role)
    for test, index, mutant, module in planted:
        if not found[module].failure and found[module].names[mutant].kind != resolve.MUTANT:
            what = f"{module}:{mutant} is no mutant, once it is imported"
            yield hit_in(test, "mutants", what, "decorate it with @mutant of pv.trial", index)


def _may_be(project: Project, module: str, name: str, wanted: str) -> bool:
    """Whether a name may be what is wanted, as far as its text tells."""
    from pv import resolve

    try:
        found = project.sources.meaning(module, name)
    except PvError:
        return False
    if found.kind == resolve.FOREIGN:  # a mutant may be made elsewhere; its module is ours all the same
        return wanted == resolve.MUTANT
    return found.kind in (wanted, resolve.UNKNOWN) or (found.kind == resolve.FUNCTION and bool(found.why))


@project_rule("PV-MODEL-001", ERROR, "a model is registered in the project")
def models_are_registered(contract: Contract, project: Project) -> Iterator[Hit]:
    known = project.models
    if isinstance(known, PvError) or not (project.marked or known):
        return
    for test in contract.tests:
        for index, name in items(test, "models") if test.ours else ():
            if name not in known and project.config.models is None:
                hint = "name a registry: [tool.pv] models = .. in pyproject.toml"
                yield hit_in(test, "models", f"the project has no registry, so no model {name!r}", hint, index)
            elif name not in known:
                yield hit_in(test, "models", f"no model {name!r} in the registry", nearest(name, known), index)


@project_rule("PV-MODEL-002", ERROR, "the registry of models can be used, with a full sha256 for each model")
def registry_is_whole(contract: Contract, project: Project) -> Iterator[Hit]:
    wrong = project.models
    if not isinstance(wrong, PvError):
        return
    named = [(test, index, name) for test in contract.tests if test.ours for index, name in items(test, "models")]
    at_fault = [one for one in named if str(wrong.args[0]).startswith(f"model {one[2]!r}: ")]
    for test, index, _ in (at_fault or named)[:1]:  # all of them for one reason
        what = f"the registry of models cannot be used: {_in_one_line(wrong)}"
        yield hit_in(test, "models", what, wrong.hint, index)


@project_rule("PV-STATUS-002", ERROR, "no test states more than the evidence of today earns", lint=True)
def overclaimed(contract: Contract, project: Project) -> Iterator[Hit]:
    for row in project.rows(contract) if _has_evidence(project) else ():
        if row.bound and row.overclaimed and row.stated is not None:  # else PV-STATUS-004 and 001 tell
            what = f"states {row.stated.value}, and has earned {row.earned.level.value}: {row.earned.reasons[0]}"
            hint = "record evidence (pytest --falsify --record), then let pv promote --write state what it is worth"
            if not project.config.evidence.is_dir():  # not recorded yet, or misspelt in the settings
                hint = f"there is no folder {shown(project.config.evidence)}: {hint}"
            yield hit_in(row.test, "status", what, hint)


def foreign_summary(contract: Contract) -> Iterator[Hit]:
    """Of contracts that are not written for pv, which no project is asked about: PV-STATUS-003 by what they say."""
    if not contract.ours:
        yield from _miscounted(contract, _counted(contract), {})


@project_rule("PV-STATUS-003", ERROR, "verification_summary counts what pv counts", lint=True, check=foreign_summary)
def summary_is_computed(contract: Contract, project: Project) -> Iterator[Hit]:
    if contract.ours and contract.root.entry("verification_summary") and _has_evidence(project):
        from pv.promote import verification_summary

        yield from _miscounted(contract, _counted(contract), verification_summary(contract, project.rows(contract)))


def _miscounted(contract: Contract, counted: dict[str, int], written: dict[str, int]) -> Iterator[Hit]:
    """The counts that are others; written: those that pv promote writes."""
    typed = contract.root.entry("verification_summary")
    for key, number in {**counted, **written}.items() if typed else ():
        if typed and key in typed.raw and (type(typed.raw[key]) is not int or typed.raw[key] != number):
            what = f"verification_summary: {key} is {typed.text(key) or 'no number'}, and pv counts {number}"
            hint = "nobody types it: pv promote --write does" if key in written else f"{key}: {number}"
            yield Hit(typed.at(key), what, hint, not contract.ours)


def _counted(contract: Contract) -> dict[str, int]:
    """What can be counted in the document itself; proofs in Lean only where obligations say how far theirs are."""
    claims = list(contract.root.entries("proof_obligations"))
    found = {"total_obligations": len(claims)}
    proofs = [lean.text("status") or "sorry" for entry in claims if (lean := entry.entry("lean"))]
    if proofs:
        found |= {"l4_lean_proved": proofs.count("proved"), "l4_sorry_count": proofs.count("sorry")}
    return found


def _has_evidence(project: Project) -> bool:
    """Whether there is anything to judge a level by: outside of a project there may be none, and PV-RUN-009 says so."""
    return project.marked or project.config.evidence.is_dir()


def _in_one_line(error: PvError) -> str:
    """What is wrong, and where that is if it is elsewhere."""
    return f"{error.args[0]} ({error.where})" if error.where else str(error.args[0])
