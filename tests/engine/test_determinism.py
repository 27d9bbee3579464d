"""Tests of engine.determinism and its report: processes, verdicts, and `apr determinism` with a defect planted."""

import json
import sys
from dataclasses import asdict

import numpy as np
import pytest

from engine import cells, determinism
from engine.cells import FRESH, LM_HEAD, LOGITS, PREFILL, WARM, Cell, planned
from engine.determinism import NotRun, Outcome, Spot, run, start, tensors_again
from engine.determinism_report import Report
from engine.errors import EngineError
from engine.registry import locate
from engine.variants import AVX2, GENERIC, VNNI, chosen
from engine.warmup import compile_kernels

TINY = locate("tiny-qwen2")
TOKENS = list(range(5, 23))
SAME = {("embedding", 0): "e", ("ffn_up", 0): "u", LM_HEAD: "l", LOGITS: "l"}


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    compile_kernels({"Q4_K", "Q6_K"}, lambda line: None)


@pytest.fixture
def here(monkeypatch):
    """Cells are measured by a function (cells) -> stages of each, instead of a process; the batches, as they came."""
    batches, asked = [], []

    def settled(answer, features=frozenset({"avx2", "fma", "f16c"})):
        def fake(model, tokens, batch, *, keep=None, **options):
            batches.append(list(batch))
            asked.append(options)
            return answer(batch)

        monkeypatch.setattr(determinism, "start", fake)
        monkeypatch.setattr(determinism.variants, "features", lambda: features)
        monkeypatch.setattr(determinism.os, "sched_getaffinity", lambda pid: {0})  # one process after the other
        return batches

    settled.asked = asked
    return settled


def same(batch):
    return [SAME] * len(batch)


# ---------------------------------------------------------------- which cells are measured


def test_a_variant_that_the_cpu_lacks_is_counted_as_not_run(here):
    batches, told = here(same), []
    outcome = run(TINY, TOKENS, 0, None, told.append)
    assert told == ["cells: 96, processes: 6, tokens: 18"]
    assert len(batches) == 6
    assert (outcome.planned, len(outcome.measured)) == (144, 96)
    (left_out,) = outcome.not_run
    assert left_out.reason == (
        "this CPU cannot run the variant avx512-vnni: it lacks avx512bw, avx512f, avx512vl, avx512vnni"
    )
    assert ({cell.variant for cell in left_out.cells}, len(left_out.cells), left_out.failed) == ({VNNI}, 48, False)


def test_one_process_measures_one_variant_on_one_number_of_threads_and_the_first_compile(here):
    batches = here(same)
    run(TINY, TOKENS, 0, None, lambda line: None)
    kinds = [{(cell.variant, cell.threads) for cell in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    assert {threads for kind in kinds[:2] for _, threads in kind} == {1}  # one of each variant, before all others
    assert sorted(cell for batch in batches for cell in map(str, batch)) == sorted(
        str(cell) for cell in planned() if cell.variant != VNNI
    )


def test_a_variant_can_be_asked_for_alone(here, monkeypatch):
    batches = here(same)
    monkeypatch.setattr(determinism.variants, "_chosen", "")
    outcome = run(TINY, TOKENS, 0, GENERIC, lambda line: None)
    assert (outcome.planned, len(outcome.measured), outcome.not_run) == (48, 48, ())
    assert {cell.variant for batch in batches for cell in batch} == {GENERIC}
    with pytest.raises(EngineError, match=r"^--variant: this CPU cannot run the variant avx512-vnni: it lacks "):
        run(TINY, TOKENS, 0, VNNI, lambda line: None)


def test_cells_that_a_short_prompt_makes_alike_are_not_run(here):
    here(same)
    outcome = run(TINY, [5, 6, 7], 0, None, lambda line: None)
    reasons = {one.reason: len(one.cells) for one in outcome.not_run if VNNI not in one.reason}
    assert reasons == {"one chunk of 16 holds the whole prompt": 24, "one chunk of 3 holds the whole prompt": 24}
    assert len(outcome.measured) == 48


def test_a_process_that_fails_leaves_the_others(here):
    def answer(batch):
        if (batch[0].variant, batch[0].threads) == (AVX2, 2):
            raise EngineError("its process ended with -11", where="avx2, threads: 2")
        return same(batch)

    here(answer)
    outcome = run(TINY, TOKENS, 0, None, lambda line: None)
    (failed,) = [one for one in outcome.not_run if one.failed]
    assert (failed.reason, len(failed.cells)) == ("avx2, threads: 2: its process ended with -11", 16)
    assert len(outcome.measured) == 80
    assert list(outcome.measured) == [cell for cell in planned() if cell in outcome.measured]


def with_a_defect(batch):
    """Cells of `generic` on 2 threads differ from the third on, behind which the process has ended."""
    if (batch[0].variant, batch[0].threads) != (GENERIC, 2):
        return same(batch)
    return [SAME, SAME, {**SAME, ("ffn_up", 0): "x"}]


def test_with_first_nothing_more_is_measured_once_two_cells_differ(here):
    batches = here(with_a_defect)
    outcome = run(TINY, TOKENS, 0, None, lambda line: None, first=True)
    assert (outcome.verdict, outcome.planned, len(outcome.measured)) == ("different", 144, 16 * 3 + 3)
    assert [(batch[0].variant, batch[0].threads) for batch in batches] == [
        (AVX2, 1), (GENERIC, 1), (AVX2, 2), (GENERIC, 2)
    ]  # fmt: skip
    (left,) = [one for one in outcome.not_run if one.reason == "two others differ already"]
    assert (len(left.cells), left.failed) == (13 + 2 * 16, False)
    assert not set(left.cells) & set(outcome.measured)
    options = {"kv_cache": "float32", "first": True}
    assert here.asked == [{**options, "known": None}] + [{**options, "known": cells.digest(SAME)}] * 3


def test_with_first_everything_is_measured_where_nothing_differs(here):
    here(same)
    plain, first = (run(TINY, TOKENS, 0, None, lambda line: None, first=asked) for asked in (False, True))
    assert plain == first
    assert (first.verdict, len(first.measured)) == ("equal", 96)


def test_a_process_that_ends_before_a_difference_is_no_equality(here):
    here(lambda batch: same(batch)[:5])
    outcome = run(TINY, TOKENS, 0, None, lambda line: None, first=True)
    assert (outcome.verdict, len(outcome.measured)) == ("not measured", 30)
    (left,) = [one for one in outcome.not_run if one.failed]
    assert (left.reason, len(left.cells)) == ("its process ended before it", 66)
    with pytest.raises(ValueError, match="zip"):
        run(TINY, TOKENS, 0, None, lambda line: None)


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("number", "failed", "tensors", "verdict", "code"),
    [
        (144, False, 4, "equal", 0),
        (96, False, 4, "equal", 0),
        (2, False, 4, "equal", 0),
        (1, False, 4, "not measured", 2),
        (0, False, 4, "not measured", 2),
        (96, True, 4, "not measured", 2),
        (144, False, 5, "not measured", 2),
    ],
)
def test_equal_means_that_all_was_measured_that_can_be(number, failed, tensors, verdict, code):
    measured, rest = dict.fromkeys(planned()[:number], SAME), tuple(planned()[number:])
    outcome = Outcome(measured, (NotRun(rest, "why", failed),) if rest else (), tensors)
    assert (outcome.verdict, outcome.exit_code, outcome.planned) == (verdict, code, 144)
    assert outcome.differing() is None


def test_a_difference_outranks_what_was_not_measured():
    a, b, *rest = planned()
    outcome = Outcome({a: SAME, b: {**SAME, LM_HEAD: "x", LOGITS: "x"}}, (NotRun(tuple(rest), "why", True),), 9)
    assert (outcome.verdict, outcome.exit_code) == ("different", 1)


def test_two_cells_that_differ_along_one_axis_and_their_first_tensor_are_named():
    measured = dict.fromkeys(planned(), SAME)
    for cell in planned():
        if cell.start == WARM and cell.threads == 3:
            measured[cell] = {**SAME, ("ffn_up", 0): "x", LM_HEAD: "y", LOGITS: "y"}
    a, b = Outcome(measured, (), 4).differing()
    assert a.key == b.key == ("ffn_up", 0)
    assert a.cell.distance(b.cell) == 1
    assert {(cell.start, cell.threads) == (WARM, 3) for cell in (a.cell, b.cell)} == {True, False}


def test_a_tensor_that_one_cell_lacks_is_a_difference():
    a, b, *_ = planned()
    spots = Outcome({a: SAME, b: {key: SAME[key] for key in (("embedding", 0), LM_HEAD, LOGITS)}}, (), 4).differing()
    assert [spot.key for spot in spots] == [("ffn_up", 0)] * 2


def test_logits_that_tracing_changes_are_a_difference_though_all_cells_agree():
    measured = {cell: {**SAME, LOGITS: "x"} for cell in planned()}
    outcome = Outcome(measured, (), 4)
    assert outcome.verdict == "different"
    assert outcome.differing() == (Spot(planned()[0], LM_HEAD), Spot(planned()[0], LOGITS))


# ---------------------------------------------------------------- the report


def report(outcome, values=None):
    return Report({"name": "m", "sha256": "0"}, (5, 6), outcome, outcome.differing(), values)


def test_the_text_accounts_for_every_cell():
    some, rest = planned()[:80], planned()[80:]
    refused, failed = tuple(rest[:48]), tuple(rest[48:])
    outcome = Outcome(
        dict.fromkeys(some, SAME), (NotRun(refused, "this CPU cannot"), NotRun(failed, "died\n  hint: look", True)), 4
    )
    value = cells.digest(SAME)
    assert report(outcome).as_text().splitlines() == [
        "m; tokens: 2; float32 cache",
        "cells  variant      sha256",
        f"   48  avx512-vnni  {value}",
        f"   32  avx2         {value}",
        "   48  not run: this CPU cannot",
        "   16  failed: died",
        "         hint: look",
        "not measured: 80 of 144 cells measured, 4 tensors each",
    ]


def test_the_json_has_these_keys_and_one_sha256_of_all_only_where_all_are_equal():
    outcome = Outcome(dict.fromkeys(planned(), SAME), (), 4)
    told = report(outcome).as_json()
    assert list(told) == [
        *(
            "schema",
            "model",
            "tokens",
            "kv_cache",
            "verdict",
            "sha256",
            "planned",
            "measured",
            "cells",
            "not_run",
            "first",
        )
    ]
    assert (told["schema"], told["tokens"], told["verdict"]) == ("apr-determinism/1", [5, 6], "equal")
    assert told["sha256"] == cells.digest(SAME)
    assert told["cells"][0] == {**asdict(planned()[0]), "sha256": cells.digest(SAME)}
    assert (told["planned"], told["measured"], told["not_run"], told["first"]) == (144, 144, [], None)
    few = Outcome(dict.fromkeys(planned()[:1], SAME), (NotRun(tuple(planned()[1:]), "why", True),), 4)
    assert report(few).as_json()["sha256"] is None
    assert report(few).as_json()["not_run"][0]["reason"] == "why"
    assert len(report(few).as_json()["not_run"][0]["cells"]) == 143


def test_the_first_value_is_told_with_its_coordinate_and_bits():
    a, b, *_ = planned()
    outcome = Outcome({a: SAME, b: {**SAME, ("ffn_up", 0): "x"}}, (), 4)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    y = x.copy()
    y[2, 1:] += 1
    text = report(outcome, (x, y)).as_text().splitlines()
    assert text[-5:-1] == [
        "first difference: ffn_up of layer 0",
        f"  a  {a}",
        f"  b  {b}",
        "  at (2, 1): a 9.0 0x41100000, b 10.0 0x41200000",
    ]
    again = report(outcome, (x, y)).as_json()["first"]["again"]
    assert json.loads(json.dumps(again)) == {
        "coordinate": [2, 1], "a": "9.0", "b": "10.0", "a_bits": "0x41100000", "b_bits": "0x41200000"
    }  # fmt: skip
    assert "run once more, the two show no difference: it comes and goes" in report(outcome, (x, x.copy())).as_text()
    assert "run once more, the two tensors did not both come" in report(outcome).as_text()
    assert report(outcome).as_json()["first"]["again"] is None


def test_logits_are_named_by_the_run_that_they_are_of():
    outcome = Outcome({cell: {**SAME, LOGITS: "x"} for cell in planned()}, (), 4)
    assert "first difference: lm_head where it is traced (a), logits where not (b)" in report(outcome).as_text()


# ---------------------------------------------------------------- processes


PLAIN = Cell(variant=chosen(), threads=1, start=FRESH, chunk=None, mode=PREFILL)


def test_a_process_measures_what_this_one_would():
    from engine.gguf import read_gguf
    from engine.model import read_model

    (found,) = start(TINY, TOKENS, [PLAIN])
    (want,) = cells.measure(read_model(read_gguf(TINY)), TOKENS, [PLAIN])
    assert found == want.stages


def test_the_second_of_two_numbers_of_threads_begins_untraced(monkeypatch):
    asked = []

    def fake(command, **options):
        asked.append((command[:4], json.loads(options["input"])))
        raise EngineError("enough")

    monkeypatch.setattr(determinism.subprocess, "run", fake)
    for threads in (1, 2, 3):
        with pytest.raises(EngineError, match=r"^enough$"):
            start(TINY, TOKENS, [Cell(variant=GENERIC, threads=threads, start=FRESH, chunk=None, mode=PREFILL)])
    assert [request["silent_first"] for _, request in asked] == [False, True, False]
    settings = ["env", "APR_VARIANT=generic", "NUMBA_NUM_THREADS=3", "GOMP_SPINCOUNT=0"]
    assert [command for command, _ in asked] == [settings] * 3


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os.abort()", f"{chosen()}, threads: 1: its process ended with -6"),
        ("raise SystemExit(3)", f"{chosen()}, threads: 1: its process ended with 3"),
        ('print(\'{"error": "no"}\'); raise SystemExit(2)', f"{chosen()}, threads: 1: no"),
    ],
)
def test_a_process_that_gives_no_answer_is_one_error(monkeypatch, code, told):
    monkeypatch.setattr(determinism, "CHILD", (sys.executable, "-c", code))
    with pytest.raises(EngineError) as error:
        start(TINY, TOKENS, [PLAIN])
    assert str(error.value) == told


def test_tensors_come_from_a_process_that_runs_what_came_before(monkeypatch):
    ran = []

    def fake(model, tokens, batch, *, keep=None, kv_cache):
        ran.append((list(batch), keep[0]))
        np.save(keep[1], np.zeros(3, np.float32))

    monkeypatch.setattr(determinism, "start", fake)
    outcome = Outcome(dict.fromkeys(planned(), SAME), (), 4)
    spots = Spot(planned()[5], LM_HEAD), Spot(planned()[18], LOGITS)
    found = tensors_again(TINY, TOKENS, outcome, spots)
    assert [array.tolist() for array in found] == [[0, 0, 0]] * 2
    assert ran == [(planned()[:6], LM_HEAD), (planned()[16:19], LOGITS)]
    monkeypatch.setattr(determinism, "start", lambda *args, **options: None)
    assert tensors_again(TINY, TOKENS, outcome, spots) is None
