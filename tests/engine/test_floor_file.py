"""Tests of engine.floor_file: the bytes of a file, what reading refuses, the tables."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from engine.errors import EngineError
from engine.floor import ARITHMETICS, PROMPTS
from engine.floor_file import EXACT, KINDS, Floor, Prompt, Row, Spread, UsedOracle, read_floor, write_floor
from engine.stages import NAMES, WHOLE
from engine.trace_folder import TracedModel

ROOT = Path(__file__).parents[2]
FLOORS, REGISTRY = ROOT / "contracts" / "floors", ROOT / "engine" / "models" / "registry.yaml"


def row(a, b, kind, stage, place=1):
    layers = (place * 1e-3,) if stage in WHOLE or stage == "embedding" else (1e-4, place * 1e-3)
    nmse, ratio = Spread(place * 1e-3, 1e-4), Spread(0.25, 0.125)
    return Row(a=a, b=b, kind=kind, stage=stage, nmse=nmse, rms_ratio=ratio, max_abs_over_max=ratio, layers=layers)


ORACLE = UsedOracle("transformers", "float32", "transformers 5, torch 2", ("attn_scores",))
FLOOR = Floor(
    package="0.1.0",
    numpy="2.4.6",
    sums="0123456789abcdef",
    model=TracedModel("tiny", "ab" * 32, "qwen2"),
    prompts=(Prompt("caf\u00e9", (1, 2)), Prompt("b", (3,))),
    arithmetics=("float32", "int8"),
    oracles=(ORACLE,),
    rows=(
        *(row(a, EXACT, kind, stage) for a in ("float32", "int8") for kind in KINDS for stage in NAMES),
        row(ORACLE.label, EXACT, "cumulative", "ffn_out", 2),
    ),
)


@pytest.fixture
def path(tmp_path):
    write_floor(tmp_path / "floor.json", FLOOR)
    return tmp_path / "floor.json"


def test_what_is_written_is_read_again(path):
    assert read_floor(path) == FLOOR


def test_an_infinite_error_is_written_and_read_again(tmp_path):
    spread = Spread(math.inf, 0.5)
    broken = replace(FLOOR.rows[1], nmse=spread, rms_ratio=spread, layers=(0.5, math.inf))
    floor = replace(FLOOR, rows=(FLOOR.rows[0], broken, *FLOOR.rows[2:]))
    write_floor(tmp_path / "floor.json", floor)
    assert read_floor(tmp_path / "floor.json") == floor
    assert '"layers": [0.5, "inf"]' in (tmp_path / "floor.json").read_text()


def test_the_file_is_ascii_sorted_and_has_a_line_for_each_row(path):
    lines = path.read_bytes().decode("ascii").splitlines()
    assert lines[:3] == ["{", '"arithmetics": ["float32", "int8"],', '"format": "apr-floor/1",']
    assert '{"text": "caf\\u00e9", "tokens": [1, 2]},' in lines
    rows = [line for line in lines if line.startswith('{"a"')]
    assert len(rows) == len(FLOOR.rows)
    assert rows[-1] == (
        '{"a": "transformers float32", "b": "float64", "kind": "cumulative", "layers": [0.0001, 0.002], '
        '"max_abs_over_max": {"max": 0.25, "median": 0.125}, "nmse": {"max": 0.002, "median": 0.0001}, '
        '"rms_ratio": {"max": 0.25, "median": 0.125}, "stage": "ffn_out"}'
    )
    assert FLOOR.as_bytes() == path.read_bytes()
    assert json.loads(path.read_bytes()) == FLOOR.as_json()


def test_a_file_without_oracles_is_the_same_json(tmp_path):
    floor = replace(FLOOR, oracles=(), rows=FLOOR.rows[:-1])
    assert json.loads(floor.as_bytes()) == floor.as_json()
    assert floor.as_json()["oracles"] == []


def first_row(**changes):
    return lambda document: document["rows"][0].update(changes)


REFUSALS = [
    (lambda d: d.update(format="apr-floor/2"), "the format is 'apr-floor/2', not 'apr-floor/1'"),
    (lambda d: d.pop("numpy"), "the key 'numpy' is missing"),
    (lambda d: d.update(package=1), "package must be text, not 1"),
    (lambda d: d["model"].update(sha256="xyz"), "sha256 must be 64 hex digits, not 'xyz'"),
    (lambda d: d.update(sums="0" * 16), "sums must be the 16 hex digits of an order of sums, not '0000000000000000'"),
    (lambda d: d.update(sums="x" * 16), "sums must be the 16 hex digits of an order of sums, not 'xxxxxxxxxxxxxxxx'"),
    (lambda d: d.update(sums=""), "sums must be the 16 hex digits of an order of sums, not ''"),
    (lambda d: d.update(prompts=[]), "there is no prompt"),
    (lambda d: d["prompts"][0].update(tokens=[]), r"tokens must be a list of ids, not \[\]"),
    (lambda d: d["prompts"][0].update(tokens=[True]), r"tokens must be a list of ids, not \[True\]"),
    (lambda d: d.update(prompts=["a"]), "an object is needed, not 'a'"),
    (lambda d: d["oracles"][0].update(missing=[1]), r"missing must be a list of names, not \[1\]"),
    (first_row(stage="attn"), "unknown stage 'attn'"),
    (first_row(kind="forced"), "kind must be one of cumulative, isolated, not 'forced'"),
    (first_row(a="fp8"), "fp8 against float64 is neither of the arithmetics nor of the oracles"),
    (lambda d: d["rows"].append(d["rows"][0]), "the row float32 float64 cumulative embedding is there twice"),
    (lambda d: d["rows"].pop(1), "1 of 80 rows are missing, first float32 float64 cumulative attn_norm"),
    (lambda d: d.update(arithmetics=[], rows=[]), "0 of 0 rows are missing"),
    (first_row(nmse={"max": -1, "median": 0}), "max of nmse must be a number of at least 0 or 'inf', not -1"),
    (first_row(nmse={"max": True, "median": 0}), "max of nmse must be a number of at least 0 or 'inf', not True"),
    (first_row(nmse={"max": 1e-3}), "median of nmse must be a number of at least 0 or 'inf', not None"),
    (first_row(rms_ratio={"max": 0.1, "median": 0.2}), "the median of rms_ratio is 0.2, above the largest, 0.1"),
    (first_row(layers=[]), r"the largest nmse of embedding is 0.001, but its layers have \(\)"),
    (first_row(layers=[0.002]), r"the largest nmse of embedding is 0.001, but its layers have \(0.002,\)"),
    (first_row(layers=[0.001, 0.0005]), "rows differ in their number of layers"),
    (lambda d: d["rows"][1]["layers"].append(0.0), "rows differ in their number of layers"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSALS)
def test_what_is_wrong_with_a_file_is_named(path, damage, message):
    document = json.loads(path.read_text())
    damage(document)
    path.write_text(json.dumps(document))
    with pytest.raises(EngineError, match=rf"floor\.json: {message}\n  hint: measure it again with `apr floor MODEL"):
        read_floor(path)


@pytest.mark.parametrize("text", ["", "[", "nan", '"a', "[" * 100_000, "\udcff"])
def test_a_file_that_is_no_json_is_refused(path, text):
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(EngineError, match=r"floor\.json: (not JSON: |the format is )"):
        read_floor(path)


def test_a_nan_is_no_number(path):
    path.write_text(path.read_text().replace('"max": 0.25', '"max": NaN', 1))
    with pytest.raises(EngineError, match="max of max_abs_over_max must be a number of at least 0 or 'inf', not nan"):
        read_floor(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(EngineError, match=r"none\.json: cannot be read: No such file or directory\n  hint: name a"):
        read_floor(tmp_path / "none.json")


def test_the_tables_name_where_the_largest_error_is(path):
    text = FLOOR.as_text().splitlines()
    assert text[:3] == [
        f"tiny (qwen2), sha256 {'ab' * 32}",
        "prompts: 2, tokens: 3, layers: 2; numpy 2.4.6",
        "transformers float32: transformers 5, torch 2",
    ]
    blocks = "\n".join(text).split("\n\n")[1:]
    assert [block.splitlines()[0] for block in blocks] == [
        "float32 against float64",
        "int8 against float64",
        "transformers float32 against float64",
    ]
    assert [len(block.splitlines()) for block in blocks] == [22, 22, 3]
    head = blocks[0].splitlines()[1].split()
    assert " ".join(head) == "stage isolated nmse median layer rms ratio cumulative nmse median layer rms ratio"
    assert blocks[0].splitlines()[2].split() == ["embedding", *2 * ["0.001", "0.0001", "-", "0.25"]]
    assert blocks[2].splitlines()[2].split() == ["ffn_out", "0.002", "0.0001", "1", "0.25"]


@pytest.mark.parametrize("path", sorted(FLOORS.glob("*.json")), ids=lambda path: path.stem)
def test_the_floors_that_contracts_name_are_whole_and_of_the_registered_models(path):
    floor = read_floor(path)
    assert floor.as_bytes() == path.read_bytes()
    assert floor.model.sha256 == yaml.safe_load(REGISTRY.read_text())[path.stem]["sha256"]
    assert [prompt.text for prompt in floor.prompts] == list(PROMPTS)
    assert floor.arithmetics == ARITHMETICS


def test_contracts_name_a_floor():
    assert list(FLOORS.glob("*.json"))
