"""The diff of files and folders: nothing that must not be compared is compared."""

import json
import math

import numpy as np
import pytest

from engine import aprt
from engine.compare import Difference
from engine.diff import diff
from engine.trace_folder import TraceWriter

INF, NAN = math.inf, math.nan


PAIR = (("embedding", 0), ("qkv_bias", 0), ("qkv_bias", 1), ("lm_head", None))


def values(*numbers):
    return np.array(numbers, np.float32)


def trace(folder, change=None, tokens=(1, 2), architecture="qwen2", shape=(2, 3), layers=range(2), **origin):
    """A trace of four tensors; change is called as change(stage, layer, array)."""
    writer = TraceWriter(folder, stages=("embedding", "qkv_bias", "lm_head"), layers=layers)
    for stage, layer in PAIR:
        array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
        if change:
            change(stage, layer, array)
        writer.tap(stage, layer, array)
    model = {"name": "tiny", "sha256": "0" * 64, "architecture": architecture}
    facts = {"engine": "0.1", "model": model, "prompt": "p", "tokens": tokens, "path": "fast", "variant": "generic"}
    writer.finish(**{**facts, **origin})
    return folder


def one_change(stage, layer, array):
    if (stage, layer) == ("qkv_bias", 1):
        array[1, 2] += 0.5


def refusal(report):
    assert report.exit_code == 2
    assert report.rows == ()
    assert report.as_json()["verdict"] == "not comparable"
    (error,) = report.refusals
    assert report.as_text().endswith(f"not comparable: {error}")
    return str(error)


@pytest.fixture
def pair(tmp_path):
    return trace(tmp_path / "a"), trace(tmp_path / "b", one_change)


def test_a_trace_is_equal_to_its_repetition_whatever_path_served_it(tmp_path):
    report = diff(trace(tmp_path / "a"), trace(tmp_path / "b", path="reference", variant="numpy-float64"))
    assert (report.exit_code, report.first_different, report.notes) == (0, None, ())
    assert [(row.stage, row.layer) for row in report.rows] == list(PAIR)
    assert report.as_text().endswith("\nequal: 4 tensors, 24 values, every bit")


def test_one_changed_value_is_found_in_its_stage_layer_and_coordinate(pair):
    report = diff(*pair)
    assert report.exit_code == 1
    first = report.first_different
    assert (first.file, first.stage, first.layer, first.shape) == ("layer-1/qkv_bias.bin", "qkv_bias", 1, (2, 3))
    assert first.comparison.worst == Difference(5, (1, 2), 5.0, 5.5, 0x40A00000, 0x40B00000, -0.5)
    assert [row.comparison.equal_bits for row in report.rows] == [True, True, False, True]


def test_the_text_has_a_line_per_tensor_and_ends_with_the_verdict(pair):
    lines = diff(*pair).as_text().splitlines()
    assert lines[0] == f"A  {pair[0]}  (tiny, path fast, variant generic)"
    assert " ".join(lines[2].split()) == "layer stage values differ max |A-B| at A B rms nmse cosine ulp nonfinite A/B"
    assert [line.split()[:4] for line in lines[3:7]] == [
        ["0", "embedding", "6", "0"],
        ["0", "qkv_bias", "6", "0"],
        ["1", "qkv_bias", "6", "1"],
        ["-", "lm_head", "6", "0"],
    ]
    assert lines[5].split()[4:9] == ["0.5", "[1,", "2]", "5.0", "5.5"]
    assert lines[7] == "first differences in layer-1/qkv_bias.bin:"
    assert lines[9].split() == ["5", "[1,", "2]", "5.0", "5.5", "-0.5"]
    assert lines[-1] == "different: 1 of 4 tensors, 1 of 24 values, from layer-1/qkv_bias.bin on"


def test_the_json_is_strict_and_holds_every_measure(tmp_path):
    def broken(stage, layer, array):
        if stage == "lm_head":
            array[0, 0], array[0, 1] = NAN, INF

    report = diff(trace(tmp_path / "a", broken), trace(tmp_path / "b"), limit=1)
    document = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert document["schema"] == "apr-diff/1"
    assert (document["verdict"], document["exit_code"], document["first_different"]) == ("different", 1, "lm_head.bin")
    assert (document["tensors_compared"], document["tensors_different"]) == (4, 1)
    assert document["a"]["manifest"]["tokens"] == [1, 2]
    last = document["tensors"][3]
    assert (last["file"], last["layer"], last["shape"], last["equal_bits"]) == ("lm_head.bin", None, [2, 3], False)
    assert last["comparison"] == {
        "count": 6,
        "different": 2,
        "left_out": 0,
        "max_abs": "nan",
        "rms": "nan",
        "nmse": "nan",
        "cosine": "nan",
        "max_ulp": None,
        "nonfinite_a": 2,
        "nonfinite_b": 0,
        "worst": (nan := {"index": 0, "coordinate": [0, 0], "a": "nan", "b": 0.0, "a_bits": 0x7FC00000, "b_bits": 0})
        | {"diff": "nan"},
        "first": [nan | {"diff": "nan"}],
        "largest": [nan | {"diff": "nan"}],
    }


def test_nothing_is_listed_at_limit_zero_and_the_worst_is_still_named(pair):
    report = diff(*pair, limit=0)
    comparison = report.first_different.comparison
    assert (comparison.first, comparison.largest, comparison.worst.index) == ((), (), 5)
    assert "differences in" not in report.as_text()


def test_nans_are_shown_with_their_bits(tmp_path):
    for name, bits in (("a.bin", 0x7FC00000), ("b.bin", 0x7F800001)):
        aprt.write_tensor(tmp_path / name, 0, np.array([bits], np.uint32).view(np.float32))
    text = diff(tmp_path / "a.bin", tmp_path / "b.bin").as_text()
    assert "nan:7fc00000  nan:7f800001" in text
    assert text.endswith("different: 1 of 1 tensor, 1 of 1 values, from a.bin on")


def test_two_files_of_traces_are_compared_with_their_shape(pair):
    a, b = (folder / "layer-1" / "qkv_bias.bin" for folder in pair)
    report = diff(a, b)
    assert (report.exit_code, report.notes, len(report.rows)) == (1, (), 1)
    assert report.rows[0].comparison.worst.coordinate == (1, 2)
    assert diff(a, a).exit_code == 0


def test_a_file_is_found_in_its_manifest_from_within_its_folder(pair, monkeypatch):
    monkeypatch.chdir(pair[0] / "layer-1")
    report = diff(*(type(pair[0])("qkv_bias.bin"),) * 2)
    assert (report.exit_code, report.rows[0].shape) == (0, (2, 3))


def test_what_could_not_be_checked_is_said(tmp_path):
    for name in ("x.bin", "y.bin"):
        aprt.write_tensor(tmp_path / name, 0, values(1.0, 2.0))
    (tmp_path / "manifest.json").write_text('{"manifest_version": 3}')  # of something else
    report = diff(tmp_path / "x.bin", tmp_path / "y.bin")
    assert report.exit_code == 0
    assert report.notes == (
        f"tokens and shapes were not checked: no manifest.json lists {tmp_path}/x.bin and {tmp_path}/y.bin",
        "stages were not checked: no stage has the name x.bin, y.bin",
    )
    assert [line for line in report.as_text().splitlines() if line.startswith("note: ")] == [
        f"note: {note}" for note in report.notes
    ]


def test_folders_without_manifests_are_compared_file_by_file_in_the_order_of_execution(tmp_path, pair):
    for folder in pair:
        (folder / "manifest.json").unlink()
        aprt.write_tensor(folder / "layer-1" / "embedding.bin", 1, values(1.0))
    report = diff(*pair)
    assert report.exit_code == 1
    assert [row.file for row in report.rows] == [
        "layer-0/embedding.bin",
        "layer-0/qkv_bias.bin",
        "layer-1/embedding.bin",
        "layer-1/qkv_bias.bin",
        "lm_head.bin",
    ]
    assert report.notes == (f"tokens and shapes were not checked: no manifest.json lists {pair[0]} and {pair[1]}",)


def test_files_that_the_manifest_does_not_list_are_not_compared(pair):
    for number, folder in enumerate(pair):
        aprt.write_tensor(folder / "layer-1" / "ffn_up.bin", 1, values(number))
    assert [row.file for row in diff(*pair).rows].count("layer-1/ffn_up.bin") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": (1, 3)}, "other tokens: 2 in A, 2 in B, at position 1 2 and 3\n"),
        ({"tokens": (1, 2, 3)}, "other tokens: 2 in A, 3 in B, the longer goes on where the shorter ends\n"),
        ({"architecture": "llama"}, "other architectures: 'qwen2' in A, 'llama' in B"),
        ({"shape": (3, 2)}, "embedding of layer 0 has the shape (2, 3) in A, (3, 2) in B (and 3 more tensors do not"),
        ({"shape": (2, 4)}, "embedding of layer 0 has (2, 3) values in A, (2, 4) in B (and 3 more tensors do not"),
        ({"layers": range(1)}, "only A has layer-1/qkv_bias.bin\n"),
        ({"layers": range(1, 2)}, "only A has layer-0/embedding.bin, layer-0/qkv_bias.bin\n"),
    ],
)
def test_traces_that_must_not_be_compared_are_refused(tmp_path, changes, message):
    report = diff(trace(tmp_path / "a"), trace(tmp_path / "b", **changes))
    assert refusal(report).startswith(message)


def test_a_long_list_of_lone_files_is_cut_and_counted(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        aprt.write_tensor(tmp_path / name / "one.bin", 0, values(1.0))
    for number in range(7):
        aprt.write_tensor(tmp_path / "y" / f"s{number}.bin", 0, values(1.0))
    message = refusal(diff(tmp_path / "x", tmp_path / "y"))
    assert message.startswith("only B has s0.bin, s1.bin, s2.bin, s3.bin, s4.bin and 2 more\n")


def test_one_missing_manifest_is_refused(pair):
    (pair[1] / "manifest.json").unlink()
    for report in (diff(*pair), diff(*reversed(pair))):
        message = refusal(report)
        assert message.startswith(f"{pair[1]}: no manifest.json in this folder, but the other has one: ")
        assert "hint: the trace was interrupted" in message


def test_other_layers_stages_and_sizes_are_refused(tmp_path):
    def write(name, layer, *numbers):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        aprt.write_tensor(tmp_path / name, layer, values(*numbers))
        return tmp_path / name

    norm = write("attn_norm.bin", 0, 1.0)
    for other, message in (
        (write("1/attn_norm.bin", 1, 1.0), "attn_norm belongs to layer 0 in A, to layer 1 in B"),
        (write("2/attn_norm.bin", None, 1.0), "attn_norm belongs to layer 0 in A, to the whole model in B"),
        (write("3/ffn_norm.bin", 0, 1.0), "other stages: attn_norm in A, ffn_norm in B"),
        (write("4/attn_norm.bin", 0, 1.0, 2.0), "attn_norm of layer 0 has 1 values in A, 2 in B"),
    ):
        assert refusal(diff(norm, other)) == message
    empty = write("5/attn_norm.bin", 0)
    assert refusal(diff(empty, empty)) == "attn_norm of layer 0 holds no values"


def test_a_file_and_a_folder_are_refused(pair):
    file = pair[0] / "lm_head.bin"
    assert refusal(diff(file, pair[0])).startswith("A is a file, B is a folder\n")
    assert refusal(diff(pair[0], file)).startswith("A is a folder, B is a file\n")


def test_nothing_to_compare_is_not_equal(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    report = diff(tmp_path, tmp_path)
    assert report.exit_code == 2
    assert [str(error).splitlines()[0] for error in report.refusals] == [
        f"{tmp_path}: no tensor files in this folder"
    ] * 2
    report = diff(tmp_path / "a", tmp_path / "b")
    assert [str(error).splitlines()[0] for error in report.refusals] == [
        f"{tmp_path}/a: no such file or folder",
        f"{tmp_path}/b: no such file or folder",
    ]


def test_files_that_deny_their_manifest_are_refused(pair):
    a, b = pair
    aprt.write_tensor(b / "layer-1" / "qkv_bias.bin", 0, values(*range(6)))
    assert "qkv_bias.bin: offset 4: the header says layer 0, the manifest layer 1\n" in refusal(diff(a, b))
    aprt.write_tensor(b / "layer-1" / "qkv_bias.bin", 1, values(*range(5)))
    assert "offset 8: the header announces 5 values, the manifest a tensor of shape (2, 3)\n" in refusal(diff(a, b))
    (b / "layer-1" / "qkv_bias.bin").unlink()
    assert refusal(diff(a, b)) == f"{b}/layer-1/qkv_bias.bin: cannot be read: No such file or directory"


def test_a_file_that_denies_its_folder_is_refused(pair):
    for folder in pair:
        (folder / "manifest.json").unlink()
    aprt.write_tensor(pair[1] / "layer-1" / "qkv_bias.bin", 11, values(*range(6)))
    assert "offset 4: the header says layer 11, the folder's name layer-1\n" in refusal(diff(*pair))


def test_a_malformed_file_and_a_malformed_manifest_are_refused(pair):
    (pair[0] / "lm_head.bin").write_bytes(b"APRT")
    assert "lm_head.bin: offset 4: the file ends inside the header: 4 bytes" in refusal(diff(*pair))
    (pair[0] / "manifest.json").write_text("{}")
    assert "manifest.json: the format is None, not 'aprt-trace/1'" in refusal(diff(*pair))
