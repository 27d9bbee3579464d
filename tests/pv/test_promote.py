import itertools
import os
import stat

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pv.binding import bind
from pv.cli import main
from pv.contract import read_contract
from pv.errors import PvError
from pv.outcome import Outcome
from pv.promote import Change, as_text, bumped, changes, edited, promote, verification_summary, write
from pv.status import survey
from pv.words import Level
from tests.pv.test_binding import CONTRACT, COVERING, FILES, project, recorded

EOL = st.sampled_from(["\n", "\r\n"])
TRAIL = st.sampled_from(["", " ", "   # why: because", " #\ttab"])
GAP = st.sampled_from([[], [""], ["# status: a comment"], ["", "  # verification_summary: no", ""]])
QUOTED = st.sampled_from(["{}", "'{}'", '"{}"'])
OTHER = st.sampled_from(
    [
        ["rule: it holds"],
        ["rule: 'status: quoted'"],
        ["if_fails: >-", "  status: folded", "", "  version: text"],
        ["if_fails: |", "  status: literal"],
        ["obligations: [A, 'B']"],
        ["tolerance: {limit: 1.0e-4, status: inner}"],
        ["note: a plain text", "  that goes on"],
        ["metadata:", "  status: inner"],
    ]
)


class Text:
    """The text before and the text that must come of it, written side by side."""

    def __init__(self, draw):
        self.draw, self.eol = draw, draw(EOL)
        self.before = self.after = draw(st.sampled_from(["", "\ufeff"]))

    def line(self, before, after=None):
        self.before += before + self.eol
        self.after += (before if after is None else after) + self.eol

    def added(self, line):
        self.after += line + self.eol

    def gap(self):
        for line in self.draw(GAP):
            self.line(line)

    def value(self, indent, key, old, new):
        """One line whose value changes."""
        form, trail = self.draw(QUOTED), self.draw(TRAIL)
        if not isinstance(new, str):
            form = "{}"
        written = "" if old is None else " " * self.draw(st.integers(1, 3)) + form.format(old)
        self.line(f"{indent}{key}:{written}{trail}", f"{indent}{key}:{self.replaced(written, form, old, new)}{trail}")

    @staticmethod
    def replaced(written, form, old, new):
        return f" {new}" if old is None else written.replace(form.format(old), form.format(new))


def metadata(text, edits):
    edits.append(Change(("metadata", "version"), "1.3.0", "1.2.9"))
    if text.draw(st.booleans()):
        text.line("metadata: { version: '1.2.9' , kind: x }", "metadata: { version: '1.3.0' , kind: x }")
        return
    text.line("metadata:" + text.draw(TRAIL))
    text.value("  ", "version", "1.2.9", "1.3.0")
    text.line("  kind: x")


def one_test(text, edits, index, indent):
    level = text.draw(st.sampled_from([level.value for level in Level]))
    state = text.draw(st.sampled_from(["missing", "empty", "PARTIAL", "same", "kept", "flow", "flow-missing"]))
    place = ("falsification_tests", index, "status")
    dash, inner = f"{indent}- ", f"{indent}  "
    if state.startswith("flow"):
        old = "" if state == "flow-missing" else ", status: PARTIAL"
        end = text.draw(st.sampled_from(["}", " }", ",}", " , }  # end"]))
        text.line(f"{dash}{{id: T-{index}, rule: x{old}{end}", f"{dash}{{id: T-{index}, rule: x, status: {level}{end}")
        edits.append(Change(place, level, "PARTIAL" if old else None))
        return
    text.line(f"{dash}id: T-{index}" + text.draw(TRAIL))
    around = text.draw(st.lists(OTHER, max_size=3, unique_by=lambda lines: lines[0].partition(":")[0]))
    at = text.draw(st.integers(0, len(around)))
    for lines in [*around[:at], None, *around[at:]]:
        if lines is None and state in ("missing", "kept"):
            continue
        if lines is None:
            old = {"empty": None, "same": level}.get(state, state)
            text.value(inner, "status", old, level)
            edits.append(Change(place, level, old))
        else:
            for line in lines:
                text.line(f"{inner}{line}" if line else "")
    if state == "missing":
        text.added(f"{inner}status: {level}")
        edits.append(Change(place, level))


COUNTS = {"total_obligations": 3, "bound": 2, "functional": 1}


def summary(text, edits, state):
    edits += [Change(("verification_summary", key), number) for key, number in COUNTS.items()]
    listed = ", ".join(f"{key}: {number}" for key, number in COUNTS.items())
    if state == "flow":
        text.line("verification_summary: {l4: 7, bound: 9}", "verification_summary: {l4: 7, bound: 2, XX}")
        text.after = text.after.replace("XX", ", ".join(f"{k}: {v}" for k, v in COUNTS.items() if k != "bound"))
    elif state == "empty":
        text.line("verification_summary: {}", f"verification_summary: {{{listed}}}")
    elif state == "block":
        text.line("verification_summary:")
        text.value("    ", "bound", 9, 2)
        text.line("    l4_lean_proved: 7" + text.draw(TRAIL))
        for key in ("total_obligations", "functional"):
            text.added(f"    {key}: {COUNTS[key]}")


@st.composite
def edits_and_texts(draw):
    text, edits = Text(draw), []
    state = draw(st.sampled_from(["absent", "flow", "empty", "block"]))
    sections = draw(st.permutations(["metadata", "tests", "other", "summary"]))
    sections = [name for name in sections if name != "summary" or state != "absent"]
    for name in sections:
        text.gap()
        if name == "metadata":
            metadata(text, edits)
        elif name == "summary":
            summary(text, edits, state)
        elif name == "other":
            text.line("equations: {e: {formula: 'status: x'}}")
        else:
            text.line("falsification_tests:")
            indent = draw(st.sampled_from(["", "  "]))
            for index in range(draw(st.integers(1, 3))):
                one_test(text, edits, index, indent)
                text.gap()
        if name == sections[-1] and state == "absent":
            if name == "tests":  # the summary belongs before the comments that follow the last test
                lines = text.after.split(text.eol)
                keep = len(lines)
                while keep and (not lines[keep - 1].strip() or lines[keep - 1].lstrip().startswith("#")):
                    keep -= 1
                inserted = ["verification_summary:", *(f"  {key}: {number}" for key, number in COUNTS.items())]
                text.after = text.eol.join([*lines[:keep], *inserted, *lines[keep:]])
            else:
                text.added("verification_summary:")
                for key, number in COUNTS.items():
                    text.added(f"  {key}: {number}")
            edits += [Change(("verification_summary", key), number) for key, number in COUNTS.items()]
    text.gap()
    if draw(st.booleans()):
        text.before, text.after = text.before.removesuffix(text.eol), text.after.removesuffix(text.eol)
    return text.before, text.after, edits


@given(edits_and_texts())
def test_an_edit_changes_its_values_and_no_other_byte_however_the_file_is_written(case):
    before, after, edits = case
    assert edited(before, edits, "x.yaml") == after
    values = yaml.safe_load(after)
    for edit in edits:
        value = values
        for step in edit.place:
            value = value[step]
        assert value == edit.new


@given(edits_and_texts())
def test_an_edit_made_twice_is_made_once(case):
    before, _, edits = case
    once = edited(before, edits, "x.yaml")
    assert edited(once, edits, "x.yaml") == once


def test_an_empty_value_at_the_end_of_a_file_without_a_line_break_can_be_set_with_what_comes_after_it():
    text = "metadata:\n  version: 1.0.0\nfalsification_tests:\n- id: T-0\n  status:"
    edits = [Change(STATUS, "UNTESTED", None), Change(("verification_summary", "bound"), 2, None)]
    assert edited(text, edits, "x.yaml").removeprefix(text) == " UNTESTED\nverification_summary:\n  bound: 2"


HEAD = "metadata: {version: 1.0.0}\nfalsification_tests:\n"
STATUS = ("falsification_tests", 0, "status")
CLEANLY = r"^x\.yaml: cannot be edited without changing something else in it; nothing is written\n  hint: write status"


END = r"^x\.yaml: cannot be edited without .*\n  hint: end the file with a line break: the text in its last lines"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{HEAD}- id: a\n  status: |\n    PARTIAL\n",
            r"^x\.yaml:4: falsification_tests\.0\.status must be one value on",
        ),
        (f"{HEAD}- id: a\n  status: [PARTIAL]\n", r"^x\.yaml:4: falsification_tests\.0\.status must be one value on"),
        (f"{HEAD}- id: a\n  status: &s PARTIAL\n- id: b\n  status: *s\n", CLEANLY),
        (f"{HEAD}- &t\n  id: a\n  rule: x\n- *t\n", CLEANLY),
        (f"{HEAD}- id: a\n  rule: |+\n    kept", END),
        (f"{HEAD}- id: a\n  rule: &r |\n    kept", END),
    ],
)
def test_what_cannot_be_edited_cleanly_is_refused(text, message):
    value = yaml.safe_load(text)["falsification_tests"][0].get("status")
    with pytest.raises(PvError, match=message):
        edited(text, [Change(STATUS, "FUNCTIONAL", value)], "x.yaml")


@pytest.mark.parametrize("block", ["|+", ">+ # folded", "&r |2+", "|-", "|", ">"])
@pytest.mark.parametrize("text", ["kept", "two\n\n      lines", "kept  ", "kept\n      ", ""])
def test_a_key_goes_behind_a_text_of_several_lines_and_leaves_it_as_it_is(text, block):
    behind = ["", "# a comment\n", "- id: b\n  status: x\n", "more: 1\n"]
    for end, blank, eol in itertools.product(behind, (0, 1, 3), ("\n", "\r\n")):
        before = f"{HEAD}- id: a\n  rule: {block}\n    {text}\n" + "\n" * blank + end
        before = before.replace("\n", eol)
        after = edited(before, [Change(STATUS, "STALE"), Change(("verification_summary", "bound"), 1)], "x.yaml")
        added = f"  status: STALE{eol}", f"verification_summary:{eol}  bound: 1{eol}"
        assert after.replace(added[0], "").replace(added[1], "") == before
        first, *_ = yaml.safe_load(after)["falsification_tests"]
        assert first == yaml.safe_load(before)["falsification_tests"][0] | {"status": "STALE"}


def test_an_alias_is_replaced_and_its_anchor_is_not():
    text = f"{HEAD}- id: a\n  status: &s PARTIAL\n- id: b\n  status: *s\n"
    after = edited(text, [Change(("falsification_tests", 1, "status"), "FUNCTIONAL", "PARTIAL")], "x.yaml")
    assert after == text.replace("*s", "FUNCTIONAL")


@pytest.mark.parametrize(
    ("version", "after"),
    [("1.2.3", "1.3.0"), ("0.0.0", "0.1.0"), ("2.9.1-rc.1+build", "2.10.0")],
)
def test_the_minor_version_rises(version, after):
    assert bumped(version, "x.yaml") == after


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "", None, 1.0])
def test_a_version_that_is_not_semantic_cannot_rise(version):
    with pytest.raises(
        PvError, match=r"^x\.yaml: metadata\.version must be a semantic version, not .*\n  hint: write it"
    ):
        bumped(version, "x.yaml")


def promoted(config, *, write_them=True):
    """Run what `pv promote --write` runs, and return the changes that were due."""
    due = promote(survey(config))
    for contract, edits in due if write_them else ():
        write(contract, edits)
    return [edit for _, edits in due for edit in edits]


def test_a_contract_states_what_its_evidence_earned_and_the_rest_of_it_stays(tmp_path):
    config, contract = project(tmp_path)
    recorded(bind(contract, contract.tests[0], config), config, only=lambda plan: plan.role != "oracle")
    assert [(edit.place[-1], edit.old, edit.new) for edit in promoted(config)] == [
        ("status", "PARTIAL", "FUNCTIONAL"),
        ("total_obligations", None, 2),
        ("l2_property_tested", None, 1),
        ("falsification_tests", None, 2),
        ("bound", None, 1),
        ("untested", None, 1),
        ("partial_algorithm_level", None, 0),
        ("functional", None, 1),
        ("discharged", None, 0),
        ("falsified", None, 0),
        ("stale", None, 0),
        ("version", "1.2.3", "1.3.0"),
    ]
    counts = (
        "verification_summary:\n  total_obligations: 2\n  l2_property_tested: 1\n  falsification_tests: 2\n  bound: 1\n"
        "  untested: 1\n  partial_algorithm_level: 0\n  functional: 1\n  discharged: 0\n  falsified: 0\n  stale: 0\n"
    )
    text = contract.path.read_text()
    assert text == CONTRACT.replace("status: PARTIAL", "status: FUNCTIONAL").replace("1.2.3", "1.3.0") + counts
    assert promoted(config) == []
    assert contract.path.read_text() == text


def test_a_level_falls_by_itself_when_the_code_changes(tmp_path):
    config, contract = project(tmp_path)
    recorded(bind(contract, contract.tests[0], config), config)
    promoted(config)
    assert read_contract(contract.path).tests[0].status == "DISCHARGED"
    (tmp_path / "sums.py").write_text("def total(x): return 1\n")
    assert [(edit.old, edit.new) for edit in promoted(config) if edit.place[-1] == "status"] == [
        ("DISCHARGED", "STALE")
    ]
    assert read_contract(contract.path).version == "1.4.0"
    (tmp_path / "sums.py").write_text(FILES["sums.py"])
    assert [(edit.old, edit.new) for edit in promoted(config) if edit.place[-1] == "status"] == [
        ("STALE", "DISCHARGED")
    ]


def test_promotion_leaves_the_evidence_of_a_promise_about_the_whole_document_fresh(tmp_path):
    config, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": COVERING})
    recorded(bind(contract, contract.tests[0], config), config)
    assert promoted(config)
    found = survey(config)
    assert found.contracts[0].tests[0].status == found.rows[0].earned.level == "DISCHARGED"
    contract.path.write_text(contract.path.read_text().replace("somebody looks", "nobody looks"))
    assert survey(config).rows[0].earned.level is Level.STALE


def test_a_falsified_record_is_written_into_the_contract(tmp_path):
    config, contract = project(tmp_path)
    binding = bind(contract, contract.tests[0], config)
    recorded(binding, config)
    recorded(binding, config, only=lambda plan: plan.suffix == "live-smol", outcome=Outcome.FALSIFIED, message="7 != 8")
    promoted(config)
    assert read_contract(contract.path).tests[0].status == "FALSIFIED"
    assert "    FALSIFIED [live-smol]: 7 != 8" in as_text(survey(config), [])


def test_a_summary_typed_by_hand_is_computed_again(tmp_path):
    config, contract = project(tmp_path)
    recorded(bind(contract, contract.tests[0], config), config)
    promoted(config)
    text = contract.path.read_text()
    contract.path.write_text(text.replace("discharged: 1", "discharged: 7").replace("bound: 1", "bound: '1'"))
    assert [(edit.place[-1], edit.old, edit.new) for edit in promoted(config)] == [
        ("bound", "1", 1),
        ("discharged", 7, 1),
        ("version", "1.3.0", "1.4.0"),
    ]
    assert contract.path.read_text() == text.replace("1.3.0", "1.4.0").replace("bound: 1", "bound: '1'").replace(
        "bound: '1'", "bound: 1"
    )


def test_a_level_typed_into_an_unbound_test_falls_and_another_word_stays(tmp_path):
    changed = CONTRACT.replace("status: verified", "status: DISCHARGED  # trust me")
    config, _ = project(tmp_path, **{"contracts/checksum-v1.yaml": changed})
    edits = [edit for edit in promoted(config, write_them=False) if edit.place[-1] == "status"]
    assert [(edit.place[1], edit.old, edit.new) for edit in edits] == [
        (0, "PARTIAL", "UNTESTED"),
        (1, "DISCHARGED", "UNTESTED"),
    ]


def test_a_foreign_contract_is_left_alone(tmp_path):
    head, _, tail = CONTRACT.partition("  falsifiers:\n")
    foreign = head + "  status: verified\n" + tail[tail.index("- id: T-2") :]
    config, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": foreign})
    assert [test.status for test in contract.tests] == ["verified", "verified"]
    assert promoted(config) == []


def test_the_file_keeps_its_permissions_and_its_symbolic_link(tmp_path):
    config, contract = project(tmp_path)
    real = tmp_path / "real.yaml"
    contract.path.rename(real)
    contract.path.symlink_to(real)
    real.chmod(0o640)
    promoted(config)
    assert contract.path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert read_contract(real).version == "1.3.0"


def test_a_crash_while_writing_leaves_the_contract_as_it_was(tmp_path, monkeypatch):
    config, contract = project(tmp_path)

    def crash(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(PvError, match=r"checksum-v1\.yaml: cannot be written: No space left on device$"):
        promoted(config)
    assert contract.path.read_text() == CONTRACT
    assert [path.name for path in contract.path.parent.iterdir()] == ["checksum-v1.yaml"]


def test_an_edit_of_somebody_else_is_not_overwritten(tmp_path):
    config, contract = project(tmp_path)
    due = promote(survey(config))
    contract.path.write_text(CONTRACT.replace("somebody", "nobody"))
    with pytest.raises(PvError, match=r"was changed since it was read; nothing is written"):
        write(*due[0])
    assert contract.path.read_text() == CONTRACT.replace("somebody", "nobody")


def test_every_test_is_listed_with_its_reasons(tmp_path):
    config, _ = project(tmp_path)
    found = survey(config)
    text = as_text(found, promote(found))
    assert (
        "checksum-v1::T-1: PARTIAL_ALGORITHM_LEVEL -> UNTESTED\n    not PARTIAL_ALGORITHM_LEVEL: algorithm has no"
        in text
    )
    assert "checksum-v1::T-2: verified -> UNTESTED\n    unbound: it names no falsifiers" in text
    assert "contracts/checksum-v1.yaml\n    T-1.status: PARTIAL -> UNTESTED\n" in text
    assert "    metadata.version: 1.2.3 -> 1.3.0" in text


def test_public_readers_find_the_integer_that_they_require(tmp_path):
    config, contract = project(tmp_path)
    summary = verification_summary(contract, survey(config).rows)
    assert summary["total_obligations"] == 2
    assert all(type(value) is int for value in summary.values())


def test_a_summary_that_is_no_mapping_is_refused(tmp_path):
    text = CONTRACT + "verification_summary: fine\n"
    config, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": text})
    with pytest.raises(PvError, match=r"checksum-v1\.yaml: verification_summary must be a mapping$"):
        changes(contract, survey(config).rows)


@pytest.fixture
def pv(tmp_path, monkeypatch, capsys):
    """Run `pv` in the project's folder: its exit code, its output, its errors."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main(list(args))
        return code, *capsys.readouterr()

    return run


def test_the_command_says_that_an_edit_is_due_makes_it_and_then_has_nothing_to_do(tmp_path, pv):
    config, contract = project(tmp_path)
    recorded(bind(contract, contract.tests[0], config), config)
    code, out, _ = pv("promote")
    assert code == 1
    assert "    T-1.status: PARTIAL -> DISCHARGED" in out
    assert "tests 2 declared, 1 bound, 1 with evidence of today" in out.splitlines()[-1]
    assert contract.path.read_text() == CONTRACT
    assert pv("promote", "--write", "contracts/checksum-v1.yaml")[0] == 0
    assert read_contract(contract.path).tests[0].status == "DISCHARGED"
    assert [pv("promote")[0], pv("promote", "--write")[0], pv("status", "--check")[0]] == [0, 0, 0]


def test_the_command_writes_nothing_where_nothing_was_measured(tmp_path, pv):
    _, contract = project(tmp_path)
    code, _, err = pv("promote", "--write")
    assert (code, err) == (2, "pv: nothing was measured: there is no evidence: run `pytest --falsify --record`\n")
    assert contract.path.read_text() == CONTRACT
    contract.path.unlink()
    assert pv("promote")[::2] == (2, "pv: nothing was measured: there is no contract\n")
    assert pv("promote", "gone.yaml")[::2] == (2, "pv: gone.yaml: no such file or folder\n")


def test_the_command_writes_nothing_while_something_cannot_be_read(tmp_path, pv):
    config, contract = project(tmp_path)
    recorded(bind(contract, contract.tests[0], config), config)
    (config.evidence / "stray").write_text("")
    code, out, err = pv("promote", "--write")
    assert (code, err) == (1, "pv: nothing is promoted while something cannot be read\n")
    assert "unreadable: evidence/stray: is no statement" in out
    assert contract.path.read_text() == CONTRACT
