"""Rules of the public tool for benchmarks against an incumbent and for research into competitors, under the same ids.

Two of ours (PV-BEAT-*) ask what it lets pass: a threshold below the incumbent, and a baseline that is long out of date.
Those for the other kinds that have rules of their own stand in pv.rules.kaizen and pv.rules.parity.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

from pv.contract import Contract, Entry
from pv.facts import Facts, iso_date
from pv.findings import ERROR, WARNING, Hit, blank, rule, run_rule
from pv.shapes import named, nearest

INCUMBENTS = ("scikit-learn", "pytorch", "unsloth", "ollama", "llama.cpp")
"""What the public tool lets a benchmark beat; an incumbent is one of them if it has the name in it, in any case."""
DIRECTIONS = ("higher_is_better", "lower_is_better")
DEVICES = ("CPU", "GPU")
SCORES = range(1, 6)
MAX_AGE = 180
"""Days for which a measurement of somebody else's tool says something; a verdict of a ledger holds no longer either."""


def today() -> date:
    """The day in UTC. Whoever asks for it is a rule over a run: what is cached must not depend on it."""
    return datetime.now(UTC).date()


def lacking(entry: Entry, key: str, hint: str) -> Iterator[Hit]:
    """The hit for a text that must be there and is missing or empty; PV-TYPE-001 sees what is no text."""
    if blank(entry, key):
        what = "is missing" if entry.raw.get(entry.key(key)) is None else "is empty"
        yield Hit(entry.at(key), f"{named((*entry.place, key))} {what}", hint)


def one_of(entry: Entry, key: str, words: tuple[str, ...]) -> Iterator[Hit]:
    """The hit for a text that must be one of the words, blanks around it aside, and is missing or another."""
    text = entry.text(key).strip()
    yield from lacking(entry, key, f"{key}: one of {', '.join(words)}")
    if text and text not in words:
        yield Hit(entry.at(key), f"{named((*entry.place, key))}: {text!r} is not known", nearest(text, words))


def _beat(contract: Contract) -> Iterator[Entry]:
    """The block of a benchmark, where there is one: BEAT-001 asks for it."""
    if contract.kind == "beat-benchmark" and (beat := contract.root.entry("beat")):
        yield beat


@rule("BEAT-001", ERROR, "a beat-benchmark has a block beat")
def beat_block(contract: Contract) -> Iterator[Hit]:
    if contract.kind == "beat-benchmark" and contract.root.raw.get("beat") is None:
        hint = "beat: {incumbent: .., metric: .., direction: .., beat_threshold: .., ..}"
        yield Hit(("beat",), "the benchmark has no block beat", hint)


@rule("BEAT-002", ERROR, "a benchmark names an incumbent, one that the public tool knows")
def incumbent(contract: Contract) -> Iterator[Hit]:
    hint = f"known: {', '.join(INCUMBENTS)}"
    for beat in _beat(contract):
        text = beat.text("incumbent").strip()
        yield from lacking(beat, "incumbent", hint)
        if text and not any(name in text.lower() for name in INCUMBENTS):
            yield Hit(beat.at("incumbent"), f"beat.incumbent: {text!r} names no known incumbent", hint)


@rule("BEAT-003", ERROR, "a benchmark names its metric")
def metric(contract: Contract) -> Iterator[Hit]:
    for beat in _beat(contract):
        yield from lacking(beat, "metric", "metric: tokens_per_sec, or what else is measured")


@rule("BEAT-004", ERROR, "a benchmark says whether higher or lower is better")
def direction(contract: Contract) -> Iterator[Hit]:
    for beat in _beat(contract):
        yield from one_of(beat, "direction", DIRECTIONS)


@rule("BEAT-005", ERROR, "a benchmark has a threshold that is a finite number")
def threshold(contract: Contract) -> Iterator[Hit]:
    for beat in _beat(contract):
        value = beat.raw.get("beat_threshold")
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            what = "is missing" if value is None else f"must be finite, not {value}"
            yield Hit(
                beat.at("beat_threshold"), f"beat.beat_threshold {what}", "write the value at which the gate fails"
            )


@rule("BEAT-006", ERROR, "a benchmark names the gate that keeps it")
def gate_name(contract: Contract) -> Iterator[Hit]:
    for beat in _beat(contract):
        yield from lacking(beat, "ci_gate_name", "ci_gate_name: the test or job that fails below the threshold")


@rule("BEAT-007", ERROR, "a benchmark runs on CPU or GPU")
def compute(contract: Contract) -> Iterator[Hit]:
    for beat in _beat(contract):
        if beat.text("approved_compute").strip().upper() not in DEVICES:
            yield from one_of(beat, "approved_compute", DEVICES)


@rule("PV-BEAT-001", WARNING, "whoever reaches a benchmark's threshold has not lost against its baseline")
def threshold_of_a_loser(contract: Contract) -> Iterator[Hit]:
    for beat in _beat(contract):
        low, high = _number(beat, "beat_threshold"), _number(beat, "baseline_value")
        side = "below"
        if beat.text("direction").strip() == "lower_is_better":
            low, high, side = high, low, "above"
        if beat.text("direction").strip() in DIRECTIONS and low is not None and high is not None and low < high:
            threshold, baseline = beat.text("beat_threshold"), beat.text("baseline_value")
            what = f"beat.beat_threshold: {threshold} is {side} the incumbent's {baseline}: the gate passes a loss"
            yield Hit(beat.at("beat_threshold"), what, f"beat_threshold: {baseline}, or what is better")


@run_rule("PV-BEAT-002", WARNING, f"the baseline of a benchmark was measured in the last {MAX_AGE} days")
def old_baseline(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    for contract in contracts:
        for mention in contract.claimed if contract.kind == "beat-benchmark" else ():
            day = iso_date(mention.name)
            if day and (today() - day).days > MAX_AGE:
                what = f"the incumbent was measured on {day}, more than {MAX_AGE} days ago"
                yield contract, Hit(mention.at, what, "measure its present release, and write that day")


def _number(entry: Entry, key: str) -> int | float | None:
    value = entry.raw.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@rule("CRUX-001", ERROR, "a demand_score lies between 1 and 5, and every story has one")
def demand_scores(contract: Contract) -> Iterator[Hit]:
    hint = "demand_score: 1 (hardly anybody asks for it) to 5 (everybody does)"
    metadata = contract.root.entry("metadata")
    stories = list(contract.root.entries("stories"))
    for entry in [metadata, *stories] if metadata else stories:
        score = entry.raw.get("demand_score")
        name = named((*entry.place, "demand_score"))
        if score is None and entry is not metadata:
            yield Hit(entry.at("demand_score"), f"{name} is missing", hint)
        elif isinstance(score, int) and not isinstance(score, bool) and score not in SCORES:
            yield Hit(entry.at("demand_score"), f"{name} is {score}, not 1 to 5", hint)


@rule("CRUX-002", ERROR, "a competitor that is given has a name, and every story gives one")
def competitors(contract: Contract) -> Iterator[Hit]:
    hint = "competitor: whose users ask for it"
    metadata = contract.root.entry("metadata")
    if metadata and metadata.raw.get("competitor") is not None:
        yield from lacking(metadata, "competitor", hint)
    for story in contract.root.entries("stories"):
        yield from lacking(story, "competitor", hint)
