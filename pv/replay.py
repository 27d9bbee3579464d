"""`pv replay`: the trial of a record, made once more, and what came out differently."""

from dataclasses import dataclass
from pathlib import Path

from pv.binding import Binding, Planned, bind
from pv.canonical import canonical
from pv.config import Config
from pv.contract import Contract, read_contract
from pv.errors import PvError
from pv.evidence.folder import Evidence
from pv.evidence.run import PLACE, trial_name
from pv.outcome import OBSERVED
from pv.statement import Record
from pv.walk import contracts_below


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A record and what its trial came to this time.

    tried        whether the trial could be made at all; if not, `message` says why
    differences  what is not as it was recorded: 'name: recorded .., now ..'
    elsewhere    facts of the environment that differ; a reason to look, not a difference
    """

    record: Record
    tried: bool
    message: str
    differences: tuple[str, ...]
    elsewhere: tuple[str, ...]


def folder_of(path: Path) -> Path | None:
    """The folder of evidence in which a file lies by its path, <contract>/<test>/<sha256>.json; None for any other."""
    real = path.resolve()
    return real.parents[2] if path.is_file() and PLACE.fullmatch("/".join(real.parts[-3:])) else None


def chosen(evidence: Evidence, name: str) -> tuple[str, Record]:
    """The record that a path or the beginning of a digest names, with its place. PvError for none, or several."""
    path = Path(name)
    if path.exists() or "/" in name:
        places = [place for place in evidence.records if (evidence.folder / place).resolve() == path.resolve()]
    else:
        wanted = name.removesuffix(".json")
        places = [place for place in evidence.records if len(wanted) >= 6 and place[-69:].startswith(wanted)]
    if len(places) == 1:
        return places[0], evidence.records[places[0]]
    if places:
        raise PvError(f"{len(places)} records begin with {name}", hint="write more of the digest")
    broken = next((p for p in evidence.problems if path.exists() and Path(p.path).resolve() == path.resolve()), None)
    if broken:
        raise PvError(f"cannot be replayed: {broken.why}", where=broken.path)
    hint = "name the file of a record, or at least 6 digits of its digest; `pv ledger --json` lists them"
    raise PvError(f"no record is called {name!r} in {evidence.folder}", hint=hint)


def replay(record: Record, config: Config, evidence: Evidence, place: str) -> Replayed:
    """Make the trial of a record again, with its seed, model and mutant. PvError where it is not the trial of today."""
    from pv.runner import run

    if place not in evidence.chain.listed:
        raise PvError("is a record that no run lists: nobody vouches for what it says", where=place)
    contract, binding, planned = _today(record, config)
    _same_subjects(record, binding, planned, evidence, place)
    test = next(test for test in contract.tests if test.id == record.test)
    result = run(binding, planned, config, where=f"{contract.path}:{test.line}", seed=record.seed)
    again = result.record
    tried = again.outcome in OBSERVED
    elsewhere = _differing("", dict(record.environment), dict(again.environment))
    elsewhere += _differing("variable ", _set(record), _set(again))
    return Replayed(
        record=record,
        tried=tried,
        message="\n".join(filter(None, (f"{again.outcome}: {again.message}", result.details))),
        differences=tuple(_differences(record, again)) if tried else (),
        elsewhere=tuple(elsewhere),
    )


def _today(record: Record, config: Config) -> tuple[Contract, Binding, Planned]:
    file = next((file for file in contracts_below(config.contracts).files if file.stem == record.contract), None)
    if file is None:
        raise PvError(f"the project has no contract {record.contract}", where=str(config.contracts))
    contract = read_contract(file)
    test = next((test for test in contract.tests if test.id == record.test), None)
    if test is None:
        raise PvError(f"has no test {record.test}", where=str(file))
    binding = bind(contract, test, config)
    if binding is None:
        raise PvError(f"{record.test} names no falsifiers", where=f"{file}:{test.line}")
    model = record.model.name if record.model else None
    asked = (record.role, record.falsifier, model, record.mutant)
    for plan in binding.planned:
        if (plan.role, plan.falsifier, plan.model, plan.mutant) == asked:
            return contract, binding, plan
    raise PvError(f"plans no trial {trial_name(record)} today", where=f"{file}:{test.line}")


def _same_subjects(record: Record, binding: Binding, planned: Planned, evidence: Evidence, place: str) -> None:
    changed = []
    if record.claim != binding.claim:
        changed.append("the claim")
    if record.code != binding.code[record.falsifier]:
        changed.append("the falsifier or the code that it reaches")
    if record.model and planned.model and record.model != binding.models[planned.model]:
        changed.append(f"model {planned.model}")
    if changed:
        commits = [run.commit for run in map(evidence.chain.runs.get, evidence.chain.listed.get(place, ())) if run]
        hint = f"check out {commits[-1][:12]}, of which it was recorded" if commits and commits[-1] else ""
        raise PvError(f"{' and '.join(changed)} changed since it was recorded", where=place, hint=hint)


def _differences(record: Record, again: Record) -> list[str]:
    names = ("outcome", "message", "comparisons", "oracle")
    found = [
        f"{name}: recorded {getattr(record, name)}, now {getattr(again, name)}"
        for name in names
        if getattr(record, name) != getattr(again, name)
    ]
    return [
        *found,
        *_differing("observation ", dict(record.observations), dict(again.observations)),
        *_differing("output ", dict(record.outputs), dict(again.outputs)),
    ]


def _set(record: Record) -> dict[str, object]:
    return {name: value for name, value in record.variables.items() if value is not None}


def _differing(kind: str, old: dict[str, object], new: dict[str, object]) -> list[str]:
    def told(values: dict[str, object], name: str) -> str:
        return canonical(values[name]).decode() if name in values else "nothing"

    names = sorted(old.keys() | new.keys())
    return [
        f"{kind}{name}: recorded {told(old, name)}, now {told(new, name)}"
        for name in names
        if told(old, name) != told(new, name)
    ]
