"""Rules about tolerances: that they state a limit and a reason, and that the limit is one that somebody can justify.

What justifies a limit is a floor that was measured (pv.floor). Where none can be measured a source does: one of
metadata.references that `because` names, beside the number. What the source says is for review.
"""

import math
import re
from collections.abc import Iterator

from pv.contract import Contract, Entry, FalsificationTest, FloorReference, Tolerance, not_applicable
from pv.errors import PvError
from pv.findings import ERROR, Hit, called, project_rule, rule
from pv.floor import ANY, METRICS, MOST_TIMES, floor_of, read_bytes, stored_floor
from pv.project import Project
from pv.rules.own import hit_in
from pv.words import ROLES

EXEMPT = {
    "bytes": "a size is counted, not rounded: no arithmetic errs in it",
    "files": "as bytes",
    "lines": "as bytes",
    "seconds": "time that may be spent is what a promise asks for: nothing honest is refused by it but what is slow",
}
"""Metrics whose limits need no floor and no source, each with its reason, where the prediction says the limit in that
unit: what measures reads no metric, so one of another name would exempt any limit. What may be wrong is none of them,
counted or not: the number of values that may differ is how far results may lie apart."""
LIKE = ("mse", "rms", "rmse", "cosine", "max_abs")
"""Other names of what METRICS measure: of a model's stages it can be said in one of those."""
FIGURE = re.compile(r"(?<![\w.^-])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?(?![\w^]|[.,]\d)", re.IGNORECASE)
"""A number in a sentence, "1,024" too; of a power, a version or a date there is none."""
NAME_ENDS = re.compile(r"[,:;](?=\s|$)|\s\((?=[^()]*[,:;])")
"""Where the name of a reference ends: "IEEE 754-2019, section 4.3" and "Layer Normalization (Ba et al., 2016)"."""


@rule("PV-TOL-001", ERROR, "a tolerance says why it is what it is")
def unreasoned_tolerance(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.tolerance is not None and not test.tolerance.because.strip():
            hint = "because: the floor that was measured, and where"
            yield hit_in(test, "tolerance", "its tolerance gives no reason", hint)


@rule("PV-TOL-002", ERROR, "a tolerance names its metric, and a limit that is a finite number, 0 or more")
def tolerance_limit(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.tolerance is None:
            continue
        limit = test.tolerance.limit
        if not test.tolerance.metric.strip():
            yield hit_in(test, "tolerance", "its tolerance names no metric", "metric: nmse")
        if limit is None or not 0 <= limit < math.inf:
            shown = "missing" if limit is None else limit
            item = "limit" if limit is not None else None
            yield hit_in(test, "tolerance", f"the limit of its tolerance is {shown}", "limit: 1.0e-4", item)


@rule("PV-TOL-003", ERROR, "the tolerance of an obligation or an equation is a finite number, 0 or more")
def stated_tolerances(contract: Contract) -> Iterator[Hit]:
    for entry, key, name, value, _ in _stated(contract):
        if not 0 <= value < math.inf:
            what = f"{name}: the {key} is {entry.text(key)}, not a finite number that is 0 or more"
            yield Hit(entry.at(key), what, f"{key}: 1.0e-4", not contract.ours)


def floor_is_sound(contract: Contract) -> Iterator[Hit]:
    """What can be told of a floor without its file."""
    for test, tolerance, floor in _floors(contract):
        if tolerance.metric and tolerance.metric not in METRICS:
            hint = f"measured are {', '.join(METRICS)}"
            yield _in_floor(test, f"there is no floor of the metric {tolerance.metric!r}", hint)
        if floor.times is not None and not 1 <= floor.times <= MOST_TIMES:
            hint = f"from 1 to {MOST_TIMES:g}: what lies further above honest errors is one"
            yield _in_floor(test, f"a limit of {floor.times:g} times the floor is none", hint, "times")


@project_rule(
    "PV-TOL-004", ERROR, "the floor of a tolerance is stored, and its limit keeps to it", check=floor_is_sound
)
def limit_keeps_to_its_floor(contract: Contract, project: Project) -> Iterator[Hit]:
    for test, tolerance, floor in _floors(contract) if project.marked else ():
        if tolerance.metric not in METRICS or not (floor.file and floor.stage and floor.arithmetic):
            continue  # told already
        try:
            stored = stored_floor(read_bytes(floor, project.config.root), floor.file)
            least = floor_of(stored, floor, tolerance.metric)
        except PvError as error:
            yield _in_floor(test, str(error.args[0]), error.hint)
            continue
        limit, times = tolerance.limit, floor.times
        known = {} if isinstance(project.models, PvError) else project.models
        named = {name: known[name].sha256 for name in test.models if name in known}
        if len(named) == len(test.models) > 0 and stored.sha256 not in named.values():
            what = f"{floor.file} was measured on the model {stored.sha256[:12]}.., which is none of its models"
            yield _in_floor(test, what, f"measure {' or '.join(named)}", "file")
        if limit is None or not 0 <= limit < math.inf or times is None or not 1 <= times <= MOST_TIMES:
            continue  # told already
        what = f"{'the largest' if floor.stage == ANY else floor.stage} {tolerance.metric} of honest {floor.arithmetic}"
        if not limit >= least:
            hint = f"it is {least:g}, measured in {floor.file}: what computes honestly would fail"
            yield hit_in(test, "tolerance", f"its limit {limit:g} lies below {what}", hint, "limit")
        elif not limit <= times * least:
            hint = f"at most {times * least:g}, since {least:g} was measured in {floor.file}"
            yield hit_in(test, "tolerance", f"its limit {limit:g} is more than {times:g} times {what}", hint, "limit")


@rule("PV-TOL-005", ERROR, "a limit is held to a measured floor, or has a source that is named", lint=True)
def unjustified_limit(contract: Contract) -> Iterator[Hit]:
    sources = _sources(contract)
    for test in contract.tests:
        held = test.tolerance
        if not test.ours or held is None or held.limit is None or not 0 < held.limit < math.inf:
            continue
        if _justified(test, sources) or _is_counted(test):
            continue
        what, metric = f"nobody can justify its limit {held.limit:g}: no floor holds it", _plain(held.metric)
        floor = "floor: {file: .., stage: any, arithmetic: int8, times: 2.0}, of apr floor MODEL --output FILE"
        if _errs_on_models(test):
            hint = floor if held.metric in METRICS else f"metric: nmse, and {floor}"
            yield hit_in(test, "tolerance", f"{what}, and of its models one can be measured", hint, "limit")
            continue
        named = any(_names(held.because, name) for name in sources)
        what += ", and because names " + (f"a source, but not {held.limit:g} beside it" if named else "no source")
        if metric in EXEMPT:
            hint = f"in its prediction: at most {held.limit:g} {metric}"
        else:
            of_metrics = floor if held.metric in METRICS else f"floors are of {', '.join(METRICS)}"
            hint = f"{of_metrics}; or {f'write {held.limit:g} beside the source' if named else _named(sources)}"
        yield hit_in(test, "tolerance", what, hint, "limit")
    for entry, key, name, value, tests in _stated(contract) if contract.ours else ():
        if not 0 < value < math.inf or not_applicable(entry):
            continue
        limits = [test.tolerance.limit for test in tests if test.tolerance and _justified(test, sources)]
        if not any(limit is not None and value <= limit < math.inf for limit in limits):
            what = f"nobody can justify the {key} {value:g}: no test of it is held to as much, by a floor or a source"
            one = tests[0].id if tests else "a test that names it"
            hint = f"in {one}: tolerance: {{metric: .., limit: {value:g}, because: .., floor: ..}}"
            yield Hit(entry.at(key), f"{name}: {what}", hint)


def _justified(test: FalsificationTest, sources: dict[str, str]) -> bool:
    """Whether a floor holds the limit, or, where none can be measured, its reason names a source and the limit."""
    held = test.tolerance
    if held is None or held.floor is not None:
        return held is not None
    rests = (rest for name in sources if (rest := _names(held.because, name)))
    return not _errs_on_models(test) and any(_says(rest, held.limit) for rest in rests)


def _names(because: str, source: str) -> str:
    """The reason without the source that it names, whose name may hold numbers; empty where it does not name it."""
    text = " ".join(because.casefold().split())
    rest, times = re.subn(rf"(?<!\w){re.escape(source)}(?!\w)", " .. ", text)
    return rest if times else ""


def _says(text: str, limit: float | None) -> bool:
    return any(float(figure.replace(",", "")) == limit for figure in FIGURE.findall(text))


def _is_counted(test: FalsificationTest) -> bool:
    """Whether the limit is of a metric that is exempt, and the prediction says so much, in that unit."""
    metric = _plain(test.tolerance.metric) if test.tolerance else ""
    if test.tolerance is None or metric not in EXEMPT or _errs_on_models(test):
        return False
    unit = re.search(rf"\b{metric[:-1]}s?\b", test.prediction, re.IGNORECASE)
    return unit is not None and _says(test.prediction, test.tolerance.limit)


def _errs_on_models(test: FalsificationTest) -> bool:
    """Whether a floor of it can be measured: it runs on models, and its metric or its prediction is of METRICS."""
    if test.tolerance is None or not test.models or not set(test.falsifiers) - {ROLES[0]}:
        return False
    words = re.sub(r"[\s_-]+", "_", test.prediction.casefold())
    foretold = any(re.search(rf"(?<![^\W_]){metric}(?![^\W_])", words) for metric in METRICS)
    return foretold or _plain(test.tolerance.metric) in (*METRICS, *LIKE)


def _plain(metric: str) -> str:
    return re.sub(r"[\s_-]+", "_", metric.strip().casefold())


def _sources(contract: Contract) -> dict[str, str]:
    """What a reason can name: the references as far as their names go, without case; each as it was written."""
    metadata = contract.root.entry("metadata")
    found: dict[str, str] = {}
    for reference in metadata.texts("references") if metadata else ():
        name = " ".join(NAME_ENDS.split(reference.strip(), maxsplit=1)[0].split())
        if sum(map(str.isalnum, name)) > 3:  # shorter ones are words of any reason
            found.setdefault(name.casefold(), name)
    return found


def _named(sources: dict[str, str]) -> str:
    """What to write where a limit has a source."""
    if not sources:
        return "name its source, in because and in metadata.references: a paper, a specification"
    shown = ", ".join(list(sources.values())[:3])
    return f"name its source in because, as metadata.references do ({shown}{', ..' if len(sources) > 3 else ''})"


def _stated(contract: Contract) -> Iterator[tuple[Entry, str, str, float, list[FalsificationTest]]]:
    """Tolerances of obligations and equations that are numbers: (entry, key, its name, number, tests of ours)."""
    ours = [test for test in contract.tests if test.ours]
    for entry in contract.root.entries("proof_obligations"):
        name = entry.text("id")
        tests = [test for test in ours if name and name in test.obligations]
        if (value := _number(entry, "tolerance")) is not None:
            yield entry, "tolerance", called(entry, "proof obligation"), value, tests
    for name, entry in contract.equation_entries():
        if (value := _number(entry, "float_tolerance")) is not None:
            bound = [test for test in ours if test.binds_to == name]
            yield entry, "float_tolerance", f"equation {name!r}", value, bound


def _number(entry: Entry, key: str) -> float | None:
    value = entry.raw.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _floors(contract: Contract) -> Iterator[tuple[FalsificationTest, Tolerance, FloorReference]]:
    for test in contract.tests:
        if test.tolerance is not None and test.tolerance.floor is not None:
            yield test, test.tolerance, test.tolerance.floor


def _in_floor(test: FalsificationTest, what: str, hint: str = "", key: str = "") -> Hit:
    place = (*test.entry.at("tolerance"), "floor", *([key] if key else ()))
    return Hit(place, f"{test.id or 'a falsification test'}: {what}", hint, not test.ours)
