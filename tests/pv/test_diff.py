"""What a change in a contract means: docs/diff.md row by row, and that nothing is invisible."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from pv import rules
from pv.cli import main
from pv.contract import make_contract
from pv.diff import added, compare, judged, removed
from pv.diff_classes import POLICIES
from pv.diff_walk import changes
from pv.semver import Size
from pv.yaml_loader import load

PAGE = (Path(__file__).parents[2] / "docs" / "diff.md").read_text(encoding="utf-8")
BASE = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
CELL = r" *((?:`[^`]*`(?: and `[^`]*`)*)?) *"
ROWS = re.findall(rf"^\| ([^|]+) \|{CELL}\|{CELL}\| (none|patch|minor|major) \| ([^|]*?) *\|$", PAGE, re.MULTILINE)
TABLE = PAGE.partition("| what changed | before |")[2].partition("\n\n")[0].splitlines()[2:]
GOOD = sorted((Path(__file__).parents[1] / "contracts" / "good").glob("*.yaml"))


def contract(text, name="x.yaml"):
    return make_contract(Path(name), load(text, name))


def dumped(value):
    return contract(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000))


def between(old, new):
    return [(change.size.word, change.what, change.place) for change in changes(contract(old), contract(new))]


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_contract_of_the_table_is_valid_and_every_row_is_read():
    assert [found for found in rules.check(contract(BASE)) if found.severity == "error"] == []
    assert len(ROWS) == len(TABLE) > 80


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_table_of_verdicts_says_what_pv_diff_says(row, tmp_path, capsys):
    _, before, after, word, why = row
    text = BASE
    for old, new in zip(parts(before), parts(after) or [""], strict=True):
        assert text.count(old) == 1
        text = text.replace(old, new)
    files = [tmp_path / "old" / "x.yaml", tmp_path / "new" / "x.yaml"]
    for file, content in zip(files, (BASE, text), strict=True):
        file.parent.mkdir()
        file.write_text(content, encoding="utf-8")
    code = main(["diff", "--json", *map(str, files)])
    verdict = json.loads(capsys.readouterr().out)
    assert (code, verdict["declined"]) == (int(word != "none"), [])
    (compared,) = verdict["comparisons"]
    assert compared["needed"] == word
    reasons = [change["reason"] for change in compared["changes"] if change["class"] == word] or [""]
    assert why in (reasons if len(parts(before)) > 1 else reasons[:1])  # of two edits, the row is about one


def parts(cell):
    """The texts of a cell of the table."""
    return [part.replace("↵", "\n") for part in re.findall("`([^`]*)`", cell)]


def test_every_way_of_judging_is_in_the_table():
    told = {row[4] for row in ROWS}
    judges = {judge for entry in POLICIES.values() for judge in entry}
    constant = {judge(None, None)[1] for judge in judges if judge.__name__ == "<lambda>"}
    assert constant - told == {"it holds under another condition"}


# -- places and matching ----------------------------------------------------------------------------------------------


def test_a_change_has_its_place_its_line_and_both_values():
    old = contract(BASE)
    line = BASE[: BASE.index("models: [tiny")].count("\n") + 1
    text = "# moved down\n" + BASE.replace("limit: 1.0e-4", "limit: 2.0e-4").replace("[tiny, small]", "[tiny]")
    first, second = changes(old, contract(text))
    assert (first.place, first.line, first.in_new) == ("falsification_tests[FALSIFY-1].tolerance.limit", line + 2, True)
    assert (first.old, first.new, first.what) == (1e-4, 2e-4, "changed")
    assert (second.place, second.line, second.in_new) == ("falsification_tests[FALSIFY-1].models", line, False)
    assert (second.old, second.new, second.what) == ("small", None, "removed")


def test_an_obligation_without_an_id_is_matched_by_type_and_property():
    text = "metadata: {version: 1.0.0, description: d}\nproof_obligations:\n- {type: bound, property: p, formal: f}\n"
    more = text.replace("- {type", "- {type: bound, property: new}\n- {type")
    assert between(text, more) == [("minor", "added", "proof_obligations[0]")]
    assert between(text, text.replace("formal: f", "formal: g")) == [
        ("major", "changed", "proof_obligations[0].formal")
    ]
    assert between(text, text.replace("{type", "{id: OBL-1, type")) == [
        ("minor", "added", "proof_obligations[OBL-1].id")
    ]


def test_entries_that_change_places_are_no_change():
    tests = BASE.partition("falsification_tests:\n")[2].partition("kani_harnesses:")[0]
    last = tests.splitlines(keepends=True)[-1]
    assert changes(contract(BASE), contract(BASE.replace(tests, last + tests.removesuffix(last)))) == []


def test_two_entries_of_one_id_do_not_hide_each_other():
    text = (
        "metadata: {version: 1.0.0, description: d}\nproof_obligations:\n- {id: A, formal: f}\n- {id: A, formal: g}\n"
    )
    assert between(text, text) == []
    assert between(text, text.replace("formal: g", "formal: h")) == [
        ("major", "changed", "proof_obligations[A].formal")
    ]
    assert between(text, text.replace("- {id: A, formal: g}\n", "")) == [("major", "removed", "proof_obligations[A]")]


def test_equations_as_a_list_are_those_of_their_ids():
    mapping = "metadata: {version: 1.0.0, description: d}\nequations:\n  a: {formula: f}\n  b: {formula: g}\n"
    listed = "metadata: {version: 1.0.0, description: d}\nequations:\n- {id: b, formula: g}\n- {id: a, formula: f}\n"
    assert between(mapping, listed) == []
    assert between(listed, listed.replace("g}", "h}")) == [("major", "changed", "equations.b.formula")]
    assert between(listed, listed.replace("id: a", "id: b")) == [
        ("minor", "added", "equations.b'"),
        ("major", "removed", "equations.a"),
    ]


def test_text_is_compared_as_it_is_written_and_a_number_by_its_value():
    text = "metadata: {version: 1.10, description: d}\nequations: {e: {formula: 1.0, float_tolerance: 1.0}}\nx: 1.0\n"
    assert between(text, text.replace("1.10", "1.1")) == [("none", "changed", "metadata.version")]
    assert between(text, text.replace("formula: 1.0", "formula: '1.0'")) == []
    assert between(text, text.replace("formula: 1.0", "formula: 1")) == [("major", "changed", "equations.e.formula")]
    assert between(text, text.replace("float_tolerance: 1.0", "float_tolerance: 1")) == []
    assert between(text, text.replace("x: 1.0", "x: 1")) == []
    assert between(text, text.replace("x: 1.0", "x: '1.0'")) == [("major", "changed", "x")]
    assert between(text.replace("x: 1.0", "x: 1"), text.replace("x: 1.0", "x: true")) == [("major", "changed", "x")]


def test_a_kind_that_is_not_written_is_the_one_that_readers_take():
    text = "metadata: {version: 1.0.0, description: d}\n"
    assert between(text, text.replace("}", ", kind: kernel}")) == []
    assert between(text, text.replace("}", ", kind: schema}")) == [("major", "changed", "metadata.kind")]
    assert ("major", "changed", "metadata.kind") in between(text, text.replace("}", ", registry: true}"))


def test_a_limit_of_another_metric_is_never_called_tightened():
    found = changes(contract(BASE), contract(BASE.replace("nmse, limit: 1.0e-4", "ulp, limit: 1.0e-9")))
    assert [change.place for change in found] == ["falsification_tests[FALSIFY-1].tolerance"]
    assert [change.size for change in found] == [Size.MAJOR]


@pytest.mark.parametrize("limit", [".nan", "-1.0e-9", "'1.0e-9'", "true", "[1.0e-9]", "null"])
def test_a_limit_that_is_no_number_of_0_or_more_is_never_called_tightened(limit):
    found = changes(contract(BASE), contract(BASE.replace("limit: 1.0e-4", f"limit: {limit}")))
    assert {change.size for change in found} == {Size.MAJOR}


@pytest.mark.parametrize(("limit", "word"), [("0", "minor"), ("0.0", "minor"), ("1.0e-9", "major"), ("''", "major")])
def test_only_a_first_tolerance_of_0_loosens_nothing(limit, word):
    new = BASE.replace(
        "property: what is written can be read", f"property: what is written can be read, tolerance: {limit}"
    )
    assert between(BASE, new) == [(word, "added", "proof_obligations[OBL-2].tolerance")]


def test_metadata_status_is_a_life_and_a_level_that_is_typed_there_a_ledger():
    def life(old, new):
        return changes(contract(BASE.replace("ACTIVE", old)), contract(BASE.replace("ACTIVE", new)))[0].size.word

    assert life("PROPOSED", "ACTIVE") == "minor"
    assert life("RETIRED", "PROPOSED") == "minor"
    assert life("ACTIVE", "PROPOSED") == "major"
    assert life("PARTIAL", "FUNCTIONAL") == "patch"
    assert life("active", "ACTIVE") == "patch"
    assert life("ACTIVE", "enforced") == "major"
    without = BASE.replace("  status: ACTIVE\n", "")
    assert between(without, BASE) == [("patch", "added", "metadata.status")]
    assert between(without, BASE.replace("ACTIVE", "RETIRED")) == [("major", "added", "metadata.status")]


def test_a_note_is_prose_wherever_it_stands_and_an_equation_called_notes_is_a_promise():
    old = "metadata: {version: 1.0.0, description: d}\nour: {deep: {notes: [one, two], comment: c}}\n"
    assert between(old, old.replace("two", "three")) == [("patch", "changed", "our.deep.notes[1]")]
    assert between(old, old.replace("comment: c", "comment: d")) == [("patch", "changed", "our.deep.comment")]
    assert between(old, old.replace("notes: [one, two], ", "")) == [("patch", "removed", "our.deep.notes")]
    text = "metadata: {version: 1.0.0, description: d}\nequations: {notes: {formula: f}}\n"
    assert between(text, text.replace("formula: f", "formula: g")) == [("major", "changed", "equations.notes.formula")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{max_error: 1.0e-6}", "{max_error: 1.0}"),
        ("{max_error: 1e-6}", "{max_error: 1e-1}"),
        ("1.0e-6", "1.0"),
        ("1e-6", "1e-1"),
        ("[faster, 8]", "[faster, 2]"),
        ("[faster, 8]", "faster"),
        ("{limit: low}", "{limit: high}"),
    ],
)
def test_only_text_is_a_note(old, new):
    text = "metadata: {version: 1.0.0, description: d}\ngates: {note: " + old + "}\n"
    assert [size for size, _, _ in between(text, text.replace(old, new))] == ["major"]


def test_evidence_that_is_asked_for_is_no_ledger():
    test = "metadata: {version: 1.0.0, description: d}\nfalsification_tests: [{id: A, evidence_required: 5 runs}]\n"
    assert between(test, test.replace("5 runs", "0 runs")) == [
        ("major", "changed", "falsification_tests[A].evidence_required")
    ]


@pytest.mark.parametrize("key", ["assumes", "guarantees"])
@pytest.mark.parametrize("dims", ["[n, m]", "[m]", "[m, n, k]", "[]"])
def test_dimensions_in_another_order_or_number_are_another_tensor(key, dims):
    text = "metadata: {version: 1.0.0, description: d}\nequations: {e: {" + key + ": {shapes: {x: {dims: [m, n]}}}}}\n"
    found = changes(contract(text), contract(text.replace("[m, n]", dims)))
    why = {"assumes": "it holds under another condition", "guarantees": "what was promised is replaced"}[key]
    assert {(change.size.word, change.why) for change in found} == {("major", why)}


def test_the_order_of_coq_imports_is_a_difference_and_that_of_dependencies_is_none():
    text = "metadata: {version: 1.0.0, description: d, depends_on: [a, b]}\ncoq_spec: {module: m, imports: [x, y]}\n"
    assert between(text, text.replace("[x, y]", "[y, x]")) == [
        ("major", "changed", "coq_spec.imports[0]"),
        ("major", "changed", "coq_spec.imports[1]"),
    ]
    assert between(text, text.replace("[a, b]", "[b, a]")) == []


# -- nothing is invisible ---------------------------------------------------------------------------------------------


def scalars(value, place=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [inner for key, item in items for inner in scalars(item, (*place, key))]
    return found if isinstance(value, dict | list) else [place]


def keys(value, place=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [inner for key, item in items for inner in [(*place, key), *keys(item, (*place, key))]]


def holder(value, place):
    for step in place[:-1]:
        value = value[step]
    return value


VALUES = [load(path.read_bytes(), str(path)).value for path in GOOD] + [load(BASE, "page").value]
PLACES = [(index, place) for index, value in enumerate(VALUES) for place in scalars(value)]
KEYS = [
    (index, place)
    for index, value in enumerate(VALUES)
    for place in keys(value)
    if holder(value, place)[place[-1]] not in ([], {}, None)  # nothing is lost there
    and (place[-1] != "kind" or value["metadata"]["kind"] != "kernel")  # what readers take where no kind is written
]
SCALARS = st.none() | st.booleans() | st.integers(-9, 10**6) | st.floats(0, 9) | st.text("abcdefgh .-", min_size=1)


def shuffled(value, random):
    if isinstance(value, dict):
        items = list(value.items())
        random.shuffle(items)
        return {key: shuffled(item, random) for key, item in items}
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("value", VALUES)
def test_a_contract_does_not_differ_from_itself(value):
    assert changes(dumped(value), dumped(value)) == []


@given(st.sampled_from(VALUES), st.randoms(use_true_random=False))
def test_the_order_of_keys_is_no_difference(value, random):
    assert changes(dumped(value), dumped(shuffled(value, random))) == []


@given(st.sampled_from(PLACES), SCALARS)
def test_a_scalar_that_changes_anywhere_is_a_change_both_ways(where, new):
    index, place = where
    value = copy.deepcopy(VALUES[index])
    old = holder(value, place)[place[-1]]
    assume(str(old) != str(new) and old != new)
    holder(value, place)[place[-1]] = new
    assert changes(dumped(VALUES[index]), dumped(value))
    assert changes(dumped(value), dumped(VALUES[index]))


@pytest.mark.parametrize(("index", "place"), KEYS, ids=str)
def test_a_key_or_an_item_that_is_missing_is_a_change_both_ways(index, place):
    value = copy.deepcopy(VALUES[index])
    del holder(value, place)[place[-1]]
    assert changes(dumped(VALUES[index]), dumped(value))
    assert changes(dumped(value), dumped(VALUES[index]))


@given(st.sampled_from(PLACES), st.sampled_from(["a", ["a"], {"a": ["a"]}, [], {}, [[{"id": "x"}]], None, 1]))
def test_a_value_of_another_type_anywhere_ends_in_no_traceback(where, new):
    index, place = where
    value = copy.deepcopy(VALUES[index])
    holder(value, place)[place[-1]] = new
    for old, now in ((VALUES[index], value), (value, VALUES[index])):
        for change in changes(dumped(old), dumped(now)):
            assert change.line >= 1


# -- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "needed", "result"),
    [
        ("1.2.3", "1.2.3", "NONE", (Size.NONE, "1.2.3", "")),
        ("1.2.3", "1.3.0", "PATCH", (Size.MINOR, "1.2.4", "")),
        ("1.2.3", "1.3.0", "MAJOR", (Size.MINOR, "2.0.0", "the version announces a minor change")),
        ("1.2.3", "1.2.3", "PATCH", (Size.NONE, "1.2.4", "the version announces no change")),
        ("1.2.3", "1.2.2", "NONE", (Size.NONE, "1.2.3", "the version goes down")),
        ("0.2.3", "0.3.0", "MAJOR", (Size.MAJOR, "0.3.0", "")),
        ("0.2.3", "0.2.4", "MINOR", (Size.PATCH, "0.3.0", "the version announces a patch change")),
        ("1.2", "1.3.0", "PATCH", (None, "", "'1.2' is no semantic version")),
        ("1.2.0", "", "PATCH", (None, "1.2.1", "'' is no semantic version")),
        ("1.2", "1.2", "NONE", (Size.NONE, "", "")),
        ("1.2", "1.2.0", "NONE", (Size.NONE, "", "")),
        ("1.2.0", "1.2", "NONE", (None, "1.2.0", "'1.2' is no semantic version")),
    ],
)
def test_a_step_between_versions_is_judged(old, new, needed, result):
    assert judged(old, new, Size[needed]) == result


VERSION = st.builds("{}.{}.{}{}".format, *[st.integers(0, 3)] * 3, st.sampled_from(["", "-rc.1", "+build"])) | st.just(
    "1"
)


@given(VERSION, VERSION)
def test_what_is_enough_for_a_change_is_enough_for_a_smaller_one(old, new):
    enough = [not judged(old, new, size)[2] for size in Size]
    assert enough == sorted(enough, reverse=True)


def test_the_largest_change_counts():
    new = BASE.replace("1.2.3", "1.3.0").replace("off_by_one]", "off_by_one, third]").replace("big_endian", "other")
    found = compare(contract(BASE), contract(new), ("a", "b"))
    assert (found.needed, found.announced, found.least, found.enough) == (Size.MAJOR, Size.MINOR, "2.0.0", False)


def test_the_minor_step_of_pv_promote_is_enough_for_the_ledger():
    new = (
        BASE.replace("1.2.3", "1.3.0").replace("FUNCTIONAL", "DISCHARGED").replace("l2_property_tested: 1", "bound: 1")
    )
    found = compare(contract(BASE), contract(new), ("a", "b"))
    assert (found.needed, found.why) == (Size.PATCH, "")


def test_a_contract_under_another_name_is_a_major_change():
    found = compare(contract(BASE), contract(BASE.replace("1.2.3", "1.3.0"), "y.yaml"), ("x", "y"), renamed=True)
    assert (found.changes[0].place, found.changes[0].old, found.changes[0].new) == ("the file's name", "x", "y")
    assert (found.needed, found.enough) == (Size.MAJOR, False)


def test_a_new_contract_needs_a_semantic_version():
    assert added(contract(BASE), "x").enough
    assert added(contract(BASE.replace("1.2.3", "1.2")), "x").why == "'1.2' is no semantic version"


def test_a_contract_may_go_only_after_it_was_retired():
    assert removed(contract(BASE), "x").why == "what it promised is withdrawn, and no version is left to announce that"
    assert removed(contract(BASE.replace("status: ACTIVE", "status: retired")), "x").enough


def test_the_sizes_are_named_in_the_page():
    assert json.dumps([size.word for size in Size]) == '["none", "patch", "minor", "major"]'
    assert all(f"| {size.word} |" in PAGE for size in Size)
