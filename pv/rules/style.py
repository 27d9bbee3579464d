"""Rules of `pv lint` about how a contract is written: what makes a promise hard to try, or hard to find."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pv.contract import Contract, Entry, FalsificationTest
from pv.findings import NOTE, WARNING, Hit, rule, some_of
from pv.rules.audit import label

MEASURABLE = re.compile(
    r"[\d=<>≤≥≈≠≡≪≫∈∉⊆⊇⊂⊃∀∃∄±∝∞→⇒]|\b("
    r"equal\w*|identical\w*|same|exact\w*|match\w*|agree\w*|differ\w*|coincid\w*|reproduc\w*|unchanged|preserv\w*"
    r"|invariant|constant|conserv\w*|no|not|non|none|never|nothing|without|zero|finite|infinite|nan|inf|true|false"
    r"|positive|negative|(in|de)creas\w*|monoton\w*|ascend\w*|descend\w*|sorted|ordered|unique|distinct|empty|bounded"
    r"|within|below|above|beyond|between|less|more|fewer|greater|larger|smaller|exceed\w*|most|least|only|proportional"
    r"|symmetric|orthogonal|transposed?|inverse|subset|superset|sums?|shapes?|bits?|bytes?|one|two|three|half|twice"
    r"|reject\w*|refus\w*|errors?|fail\w*|panics?|exits?|raises?|compiles?|parses?|accept\w*|abort\w*|clamp\w*"
    r"|contains?|includes?|exists?|(arg)?(min|max)|minim\w+|maxim\w+|classified|flagged|detected|label\w*"
    r"|returns?|prints?|emits?|spawns?|resolves?|pass(es|ed)?|succeeds?|surviv\w*|satisf(y|ies|ied)|type-?checks?"
    r"|enabled|disabled|configured|present|absent|missing|bounds?|deterministic(ally)?|idempotent|blocked"
    r"|(all|both|each|every)\b.*\bha(s|ve)"
    r")\b|\[[^\]]*,[^\]]*\]",
    re.IGNORECASE | re.DOTALL,
)
"""A number, a relation, or a word for something that can be seen to hold or not: that all have it is one, too."""
COMMAND = re.compile(
    r"apr|awk|bash|bazel|cargo|cat|cd|cmake|cmp|ctest|curl|diff|docker|echo|env|find|for|git|go|gh|grep|head|if|jq|just"
    r"|lake|llama-\w+|make|mypy|ninja|node|nox|npm|npx|perl|pmat|podman|printf|pv|pytest|python3?|rg|ruff|rustc|sed"
    r"|set|sh|test|timeout|tox|uvx?|wc|while|xargs|!|\[{1,2}"
)
"""First words of shell lines."""
SENTENCE = re.compile(
    r"all|an|and|any|both|by|each|every|how|it|its|on|over|random|some|sure|that|the|this|through|two|whether|with"
)
"""Second words of sentences that begin like a shell line: test that .., find the .., make sure .."""
NOTHING = re.compile(r"proptest|kani|fuzz|manual|manually|none|n/a|na|tbd|todo|pending|yes", re.IGNORECASE)
"""Single words that name neither a command nor a test."""
SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
"""https://semver.org/spec/v2.0.0.html, clauses 2, 9 and 10."""


@rule("PV-STYLE-001", WARNING, "a prediction says something that can be measured", lint=True)
def vague_predictions(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests:
        if test.prediction.strip() and not measurable(test.prediction):
            hint = "predict a number, a relation, an exit code, bytes: something that an observer sees to hold or not"
            yield Hit(test.entry.at("prediction"), f"{_called(test)} predicts nothing that can be measured", hint)


@rule("PV-STYLE-002", WARNING, "a test names what runs it: falsifiers, a command, or the name of a test", lint=True)
def prose_for_tests(contract: Contract) -> Iterator[Hit]:
    idle = [test for test in contract.tests if not (isinstance(_written(test), list | dict) or runs(test.test))]
    foreign = [test for test in contract.tests if not test.ours]
    prose = [test for test in idle if not test.ours]
    hint = "falsifiers: {algorithm: package.module:function}"
    if len(prose) > 3 or len(prose) == len(foreign) > 1:  # as in most public contracts, where few were meant to run
        shown = some_of([_called(test) for test in prose])
        what = f"{len(prose)} of {len(foreign)} tests name nothing that runs: {shown}"
        yield Hit(prose[0].entry.at("test"), what, hint)
        prose = []
    for test in prose:
        what = "describes its test, and names nothing that runs" if test.test.strip() else "has no test"
        yield Hit(test.entry.at("test"), f"{_called(test)} {what}", hint)
    for test in idle:
        if test.ours and test.test.strip():
            what = f"{_called(test)} describes in `test` what its falsifiers run: who reads it cannot run it"
            yield Hit(test.entry.at("test"), what, "test: a command, or leave it out: what runs is its falsifiers")


@rule("PV-STYLE-004", WARNING, "a test tolerates no more than the obligation that it tests", lint=True)
def wider_tolerances(contract: Contract) -> Iterator[Hit]:
    for entry, tests in _tolerances(contract):
        for test in tests:
            limit, promised = test.tolerance.limit if test.tolerance else None, entry.raw["tolerance"]
            if limit is not None and not limit <= promised:
                where = (*test.entry.at("tolerance"), "limit")
                what = f"{_called(test)} tolerates {limit}, but {label(entry)} {promised}"
                yield Hit(where, what, "if their metrics differ, take the tolerance of the obligation out")


@rule("PV-STYLE-005", WARNING, "metadata.version is a semantic version", lint=True)
def versions(contract: Contract) -> Iterator[Hit]:
    if contract.version.strip() and not SEMVER.fullmatch(contract.version):
        hint = "three numbers, such as 1.0.0: `pv diff` judges a change by them"
        yield Hit(("metadata", "version"), f"{contract.version!r} is no semantic version", hint)


@rule("PV-STYLE-006", NOTE, "ids follow the scheme of their neighbours", lint=True)
def odd_ids(contract: Contract) -> Iterator[Hit]:
    for section in ("falsification_tests", "proof_obligations", "kani_harnesses"):
        entries = [entry for entry in contract.root.entries(section) if entry.text("id").strip()]
        for entry, scheme, number in outliers(entries):
            what = f"{entry.text('id')!r} is not like the ids of {number} others: {scheme}"
            yield Hit(entry.at("id"), what)


def measurable(prediction: str) -> bool:
    """Whether a prediction says anything that can be seen to hold or not; of texts not in Latin letters, yes."""
    return MEASURABLE.search(prediction) is not None or any(c.isalpha() and c > "\u024f" for c in prediction)


def runs(test: str) -> bool:
    """Whether the text of a test is a command or the name of a test; otherwise it is prose, or missing."""
    words = test.split()
    if not words:
        return False
    first = words[0].strip("`")
    if len(words) == 1:
        return NOTHING.fullmatch(first.rstrip(".")) is None
    return (
        (COMMAND.fullmatch(first) is not None and SENTENCE.fullmatch(words[1]) is None)
        or re.match(r"[$./~({]|\w+=", first) is not None
        or re.match(r"[\w.-]+/[\w./-]+$|[\w.]+(::\w+)+$", first) is not None
        or (first[0].islower() and any(re.fullmatch(r"--?[a-zA-Z][\w-]*(=.*)?", word) for word in words[1:]))
    )


def outliers(entries: Iterable[Entry]) -> Iterator[tuple[Entry, str, int]]:
    """Entries whose id differs from the scheme of 3 others or more, three in four: (entry, scheme, how many others).

    A scheme is what stands before the number that ends an id; with a number of leading zeros, its width too.
    """
    parts = {entry.place: re.fullmatch(r"(.*?)([0-9]+)", entry.text("id").strip()) for entry in entries}
    prefixes = Counter(match[1] for match in parts.values() if match)
    if not prefixes:
        return
    prefix, number = prefixes.most_common(1)[0]
    if number < 3 or number * 4 < len(parts) * 3:
        return
    numbers = [match[2] for match in parts.values() if match and match[1] == prefix]
    width = Counter(map(len, numbers)).most_common(1)[0][0] if any(n.startswith("0") for n in numbers) else 1
    scheme = f"{prefix}{'N' * width}"
    for entry in entries:
        match = parts[entry.place]
        if match is None or match[1] != prefix or len(match[2]) < width:
            yield entry, scheme, sum(len(n) >= width for n in numbers)


def _written(test: FalsificationTest) -> Any:
    return test.raw.get(test.entry.key("test"))


def _tolerances(contract: Contract) -> Iterator[tuple[Entry, list[FalsificationTest]]]:
    """Obligations with a number for a tolerance, and the tests written for pv that name them by id."""
    for entry in contract.root.entries("proof_obligations"):
        tolerance = entry.raw.get("tolerance")
        if isinstance(tolerance, int | float) and not isinstance(tolerance, bool):
            name = entry.text("id")
            yield entry, [test for test in contract.tests if test.ours and name and name in test.obligations]


def _called(test: FalsificationTest) -> str:
    return test.id or f"the falsification test in line {test.line}"
