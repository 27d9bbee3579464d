"""What a change in a contract means to those who rely on it: docs/diff.md is this table in words, and is tested.

The names of a place are keys in their first spelling; names and items that the author chooses are ANY. A place that is
not listed is judged as the nearest place above it that is, and as a PROMISE where there is none: what pv does not know
may be relied on.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from pv.semver import Size
from pv.vocabulary import FALSIFICATION_TEST, TYPED
from pv.words import LIFE, level_named

NONE, PATCH, MINOR, MAJOR = Size

Place: TypeAlias = tuple[str, ...]
Judged: TypeAlias = tuple[Size, str]
Judge: TypeAlias = Callable[[Any, Any], Judged]

ANY = "*"
NOTES = frozenset(("note", "notes", "comment", "comments"))
"""Keys whose text, or list of texts, promises nothing, wherever they stand."""


class Policy(NamedTuple):
    """The class and the reason of what is added (old is None), removed (new is None) or changed."""

    added: Judge
    removed: Judge
    changed: Judge


def _always(size: Size, why: str) -> Judge:
    return lambda old, new: (size, why)


def _all(judge: Judge) -> Policy:
    return Policy(judge, judge, judge)


_MORE = _always(MINOR, "promised in addition")
_WITHDRAWN = _always(MAJOR, "what was promised is withdrawn")
_ANOTHER = _always(MAJOR, "what was promised is replaced")

PROMISE = Policy(_MORE, _WITHDRAWN, _ANOTHER)
PROSE = _all(_always(PATCH, "text that promises nothing"))
LEDGER = _all(_always(PATCH, "the ledger: what was earned, not what is promised"))
NUMBER = _all(_always(NONE, "the number that is judged"))
SCOPE = _all(_always(MAJOR, "what the promise is about is another"))
KIND = _all(_always(MAJOR, "contracts of another kind are judged by other rules"))
CONDITION = Policy(
    _always(MAJOR, "it holds under one more condition"),
    _always(MINOR, "it holds under fewer conditions"),
    _always(MAJOR, "it holds under another condition"),
)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _limit(old: Any, new: Any) -> Judged:
    before, after = _number(old), _number(new)
    if before is not None and after is not None and 0 <= after < before:
        return MINOR, "the tolerance is tightened"
    return MAJOR, "the tolerance is loosened"


def _first_limit(old: Any, new: Any) -> Judged:
    limit = _number(new.get("limit") if isinstance(new, Mapping) else new)
    if limit == 0:
        return MINOR, "that equal means equal is stated"
    return MAJOR, "where no tolerance stood, equal meant equal"


_UNLIMITED = _always(MAJOR, "without its tolerance nobody can tell how far it holds")
TOLERANCE = Policy(_first_limit, _UNLIMITED, _always(MAJOR, "measured in another way: the limits cannot be compared"))
LIMIT = Policy(_first_limit, _UNLIMITED, _limit)


def _bound(old: Any, new: Any) -> Judged:
    before, after = _number(old), _number(new)
    if before is not None and after is not None and after > before:
        return MINOR, "it is verified further"
    return MAJOR, "it is verified less far"


def _ranked(*words: str) -> Policy:
    """A word of a scale, the weakest first; a word that is not on it is replaced."""

    def changed(old: Any, new: Any) -> Judged:
        before, after = str(old).lower(), str(new).lower()
        if before not in words or after not in words:
            return _ANOTHER(old, new)
        if words.index(after) > words.index(before):
            return MINOR, "it claims more"
        return MAJOR, "it claims less"

    return Policy(_MORE, _WITHDRAWN, changed)


def _life(old: Any, new: Any) -> Judged:
    """A document's life; ACTIVE is what it is where nothing is said."""
    before, after = str(old or "ACTIVE").strip().upper(), str(new or "ACTIVE").strip().upper()
    if level_named(before) and level_named(after):
        return LEDGER.changed(old, new)
    if before not in LIFE or after not in LIFE:
        return MAJOR, "pv does not know what these words promise"
    if before == after:
        return PATCH, "it says what held before"
    if LIFE.index(after) > LIFE.index(before):
        return MINOR, "the document promises more than it did"
    return MAJOR, "the document promises less than it did"


def _obligation(old: Any, new: Any) -> Judged:
    if isinstance(new, Mapping) and new.get("type") == "precondition":
        return CONDITION.added(old, new)
    return _MORE(old, new)


STRENGTHS = _ranked("basic", "standard", "strict", "proven")
_TEST, _OBLIGATION, _EQUATION = ("falsification_tests", ANY), ("proof_obligations", ANY), ("equations", ANY)

POLICIES: Mapping[Place, Policy] = {
    **{
        ("metadata", key): PROSE
        for key in ("description", "references", "author", "created", "updated", "changelog", "lessons_learned")
    },
    ("metadata", "version"): NUMBER,
    ("metadata", "kind"): KIND,
    ("metadata", "registry"): KIND,
    ("metadata", "status"): _all(_life),
    ("metadata", "enforcement_level"): STRENGTHS,
    ("metadata", "locked_level"): STRENGTHS,
    (*_EQUATION, "domain"): SCOPE,
    (*_EQUATION, "preconditions"): CONDITION,
    (*_EQUATION, "assumes"): CONDITION,
    (*_EQUATION, "assumes", "shapes", ANY, "dims"): _all(CONDITION.changed),  # another rank is another tensor
    (*_EQUATION, "guarantees", "shapes", ANY, "dims"): _all(_ANOTHER),
    (*_EQUATION, "float_tolerance"): LIMIT,
    (*_EQUATION, "description"): PROSE,
    (*_EQUATION, "references"): PROSE,
    _OBLIGATION: Policy(_obligation, _WITHDRAWN, _ANOTHER),
    (*_OBLIGATION, "tolerance"): LIMIT,
    (*_OBLIGATION, "applies_to"): SCOPE,
    (*_OBLIGATION, "applies_to_phase"): SCOPE,
    (*_OBLIGATION, "na_reason"): SCOPE,
    (*_OBLIGATION, "na_owner"): PROSE,
    (*_OBLIGATION, "requires"): CONDITION,
    (*_OBLIGATION, "description"): PROSE,
    (*_OBLIGATION, "lean", "status"): _ranked("sorry", "wip", "proved"),
    (*_TEST, "if_fails"): PROSE,
    (*_TEST, "description"): PROSE,  # where `rule` says what must hold; else it is another spelling of it
    (*_TEST, "status"): LEDGER,
    **{(*_TEST, key): LEDGER for key, hint in FALSIFICATION_TEST.free.items() if hint == TYPED},
    (*_TEST, "evidence_required"): PROMISE,  # what has to be shown, not what was
    (*_TEST, "tolerance"): TOLERANCE,
    (*_TEST, "tolerance", "limit"): LIMIT,
    (*_TEST, "tolerance", "because"): PROSE,
    (*_TEST, "tolerance", "floor"): Policy(
        _always(MINOR, "its limit is held to a measured floor"),
        _always(MAJOR, "nothing holds its limit to what honest arithmetic errs by"),
        _always(MINOR, "its limit is held to another floor"),
    ),
    ("kani_harnesses", ANY, "bound"): Policy(_MORE, _WITHDRAWN, _bound),
    ("kani_harnesses", ANY, "actually_verified"): _ranked("false", "true"),
    ("kani_harnesses", ANY, "description"): PROSE,
    ("enforcement", ANY, "reference"): PROSE,
    ("type_invariants", ANY, "description"): PROSE,
    ("qa_gate", "name"): PROSE,
    ("qa_gate", "description"): PROSE,
    ("verification_summary",): LEDGER,
    ("changelog",): PROSE,
    ("title",): PROSE,
    ("date",): PROSE,
    ("status",): _ranked("draft", "planned", "pending", "implementing", "implemented"),  # of a kaizen record
}


def policy(place: Place) -> Policy:
    """How a change at a place is judged, where it is no note."""
    for end in range(len(place), 0, -1):
        if place[:end] in POLICIES:
            return POLICIES[place[:end]]
    return PROMISE


def is_note(place: Place, old: Any, new: Any) -> bool:
    """Whether two values, None for a missing one, are remarks: what is under a note's key and no text is judged."""
    inner = place[:-1] if place[-1:] == (ANY,) else place
    return inner[-1:] != () and inner[-1] in NOTES and _only_text(old) and _only_text(new)


def _only_text(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) and _only_text(item) for item in value)
    if not isinstance(value, str):
        return value is None
    try:
        float(value)
    except ValueError:
        return True
    return False  # 1e-6 is a number that a YAML 1.1 reader takes for a text
