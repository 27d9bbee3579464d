"""The trace folder: what is selected is written, the manifest tells the truth about it, and sizes can be predicted."""

import json
import math
import os

import numpy as np
import pytest

from engine import aprt
from engine import trace_folder as tf
from engine.errors import EngineError
from engine.stages import NAMES, WHOLE
from falsifiers.subject import layout, shapes

SHAPES = shapes({"hidden": 8, "ffn": 12, "heads": 4, "kv_heads": 2, "head_dim": 2, "vocab": 10}, 3)
LAYERS = 2


def facts(**changes):
    model = {"name": "tiny", "sha256": "0a" * 32, "architecture": "qwen2"}
    given = {"engine": "0.1", "model": model, "prompt": "é?", "tokens": (5, 0, 7), "path": "fast", "variant": "generic"}
    return {**given, **changes}


def forward(tap, fill=1.0):
    """Taps every stage as a model of two layers does."""
    for layer in range(LAYERS):
        for stage in NAMES:
            if stage not in WHOLE and (stage != "embedding" or layer == 0):
                tap(stage, layer, np.full(SHAPES[stage], fill, np.float32))
    for stage in ("final_norm", "lm_head"):
        tap(stage, None, np.full(SHAPES[stage], fill, np.float32))


def trace(folder, stages=NAMES, layers=range(LAYERS), fill=1.0, **changes):
    writer = tf.TraceWriter(folder, stages=stages, layers=layers)
    forward(writer.tap, fill)
    return writer.finish(**facts(**changes))


def files(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_a_trace_of_all_stages_has_the_predicted_files_of_the_predicted_sizes(tmp_path):
    trace(tmp_path)
    got = {file: path.stat().st_size for file, path in files(tmp_path).items() if file != "manifest.json"}
    want = layout({}, range(LAYERS))
    assert got == {file: 12 + 4 * math.prod(SHAPES[stage]) for file, (stage, _) in want.items()}
    assert len(got) == 1 + 17 * LAYERS + 2


def test_the_layer_of_every_header_is_that_of_its_folder(tmp_path):
    manifest = trace(tmp_path)
    for entry in manifest.tensors:
        assert aprt.header(tmp_path / entry.file).layer == entry.layer
        assert entry.file == (f"{entry.stage}.bin" if entry.layer is None else f"layer-{entry.layer}/{entry.stage}.bin")


def test_only_the_selected_stages_and_layers_are_written(tmp_path):
    manifest = trace(tmp_path, stages=("lm_head", "embedding", "ffn_up"), layers=range(1, 2))
    assert set(files(tmp_path)) == {"manifest.json", "layer-1/ffn_up.bin", "lm_head.bin"}
    assert [(entry.stage, entry.layer, entry.shape) for entry in manifest.tensors] == [
        ("ffn_up", 1, (3, 12)),
        ("lm_head", None, (10,)),
    ]


def test_the_manifest_is_read_as_it_was_written_and_in_the_order_of_execution(tmp_path):
    manifest = trace(tmp_path)
    assert tf.read_manifest(tmp_path) == manifest
    stages = [entry.stage for entry in manifest.tensors]
    assert stages == [*NAMES[:18], *NAMES[1:18], "final_norm", "lm_head"]
    assert manifest.model == tf.TracedModel("tiny", "0a" * 32, "qwen2")
    assert (manifest.prompt, manifest.tokens, manifest.path, manifest.variant) == ("é?", (5, 0, 7), "fast", "generic")


def test_the_manifest_of_one_tensor_is_exactly_these_bytes(tmp_path):
    trace(tmp_path, stages=("lm_head",))
    assert (tmp_path / "manifest.json").read_text() == (
        '{\n "engine": "0.1",\n "format": "aprt-trace/1",\n "model": {\n  "architecture": "qwen2",\n  "name": "tiny",\n'
        '  "sha256": "' + "0a" * 32 + '"\n },\n "path": "fast",\n "prompt": "\\u00e9?",\n "tensors": [\n  {\n'
        '   "file": "lm_head.bin",\n   "layer": null,\n   "shape": [\n    10\n   ],\n   "stage": "lm_head"\n  }\n ],\n'
        ' "tokens": [\n  5,\n  0,\n  7\n ],\n "variant": "generic"\n}\n'
    )


def test_the_kind_of_cache_is_written_down_where_there_is_one(tmp_path):
    assert trace(tmp_path, stages=("lm_head",)).kv_cache is None
    writer = tf.TraceWriter(tmp_path, stages=("lm_head",), layers=[0])
    writer.tap("lm_head", None, np.ones(10, np.float32))
    assert writer.finish(**facts(kv_cache="float16")).kv_cache == "float16"
    assert tf.read_manifest(tmp_path).kv_cache == "float16"
    assert ' "kv_cache": "float16",\n "model"' in (tmp_path / "manifest.json").read_text()


def test_what_an_oracle_cannot_give_is_written_down(tmp_path):
    given = [stage for stage in NAMES if stage != "ffn_silu"]
    assert trace(tmp_path, given, path="llama-cpp", missing=("ffn_silu",)).missing == ("ffn_silu",)
    assert tf.read_manifest(tmp_path).missing == ("ffn_silu",)
    assert ' "missing": [\n  "ffn_silu"\n ],\n "model"' in (tmp_path / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("path", "missing", "message"),
    [
        ("fast", ["ffn_silu"], "the path fast gives every stage, and cannot have ffn_silu missing"),
        ("reference", ["ffn_silu"], "the path reference gives every stage, and cannot have ffn_silu missing"),
        ("llama-cpp", ["ffn_silu", "ffn_silu"], "ffn_silu is listed as missing twice"),
    ],
)
def test_stages_that_cannot_be_missing_are_refused(tmp_path, path, missing, message):
    with pytest.raises(EngineError, match=rf"manifest\.json: {message}\n"):
        trace(tmp_path, ("lm_head",), path=path, missing=missing)


def test_two_traces_of_the_same_run_are_the_same_bytes_even_if_the_order_of_taps_differs(tmp_path):
    trace(tmp_path / "a", stages=("ffn_up", "embedding"))
    writer = tf.TraceWriter(tmp_path / "b", stages=("embedding", "ffn_up"), layers=[1, 0])
    for stage, layer in (("ffn_up", 1), ("ffn_up", 0), ("embedding", 0)):
        writer.tap(stage, layer, np.ones(SHAPES[stage], np.float32))
    writer.finish(**facts(tokens=[5, 0, 7]))
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert {file: path.read_bytes() for file, path in a.items()} == {
        file: path.read_bytes() for file, path in b.items()
    }


def test_the_array_may_be_reused_after_the_tap(tmp_path):
    writer = tf.TraceWriter(tmp_path, stages=("ffn_up",), layers=range(2))
    array = np.zeros(4, np.float32)
    for layer in range(2):
        array[:] = layer
        writer.tap("ffn_up", layer, array)
    assert aprt.read_tensor(tmp_path / "layer-0" / "ffn_up.bin").values.tolist() == [0] * 4


def test_an_interrupted_trace_leaves_no_manifest(tmp_path):
    trace(tmp_path)
    writer = tf.TraceWriter(tmp_path, stages=NAMES, layers=range(LAYERS))
    assert (tmp_path / "manifest.json").exists()  # nothing was overwritten yet: it still tells the truth
    writer.tap("lm_head", None, np.zeros(10, np.float32))
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("place", ["manifest.json", "layer-1/ffn_up.bin"])
def test_what_is_no_file_where_one_belongs_is_refused_before_anything_is_written(tmp_path, place):
    trace(tmp_path)
    (tmp_path / place).unlink()
    os.mkfifo(tmp_path / place)
    with pytest.raises(EngineError, match=rf"^{tmp_path / place}: is a named pipe, not a regular file\n"):
        tf.TraceWriter(tmp_path, stages=NAMES, layers=range(LAYERS))
    assert (tmp_path / place).is_fifo()
    assert (tmp_path / "manifest.json").exists()


def test_a_link_to_a_tensor_file_is_followed(tmp_path):
    (tmp_path / "other.bin").touch()
    (tmp_path / "lm_head.bin").symlink_to("other.bin")
    trace(tmp_path, stages=("lm_head",))
    assert (tmp_path / "lm_head.bin").is_symlink()
    assert aprt.read_tensor(tmp_path / "other.bin").values.size == 10


def test_files_of_an_earlier_trace_stay_but_are_not_listed(tmp_path):
    trace(tmp_path, fill=1.0)
    (tmp_path / "mine.txt").write_text("keep")
    trace(tmp_path, stages=("ffn_up",), layers=[0], fill=2.0)
    assert [entry.file for entry in tf.read_manifest(tmp_path).tensors] == ["layer-0/ffn_up.bin"]
    assert {"mine.txt", "layer-1/ffn_up.bin", "lm_head.bin"} <= set(files(tmp_path))


def test_a_trace_that_lacks_a_selected_tensor_gets_no_manifest(tmp_path):
    message = (
        rf"^{tmp_path}: 17 of 54 selected tensors were not traced, first attn_norm of layer 2\n  hint: select layers"
    )
    with pytest.raises(EngineError, match=message):
        trace(tmp_path, layers=range(3))
    assert not (tmp_path / "manifest.json").exists()


def test_a_selection_without_tensors_is_refused_before_anything_is_made(tmp_path):
    for stages, layers in (((), range(2)), (("embedding",), range(1, 2)), (("ffn_up",), ())):
        with pytest.raises(EngineError, match=r"^the selected stages have no tensor in the selected layers\n"):
            tf.TraceWriter(tmp_path / "t", stages=stages, layers=layers)
    assert not (tmp_path / "t").exists()


def test_the_same_tensor_twice_is_a_defect_of_the_caller(tmp_path):
    writer = tf.TraceWriter(tmp_path, stages=("ffn_up",), layers=[0])
    writer.tap("ffn_up", 0, np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"^stage 'ffn_up' of layer 0 was traced twice"):
        writer.tap("ffn_up", 0, np.zeros(4, np.float32))


def test_a_folder_that_cannot_be_made_is_named_before_the_model_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"file: the folder cannot be made: File exists\n  hint: choose another"):
        tf.TraceWriter(tmp_path / "file", stages=("lm_head",), layers=())
    with pytest.raises(EngineError, match=r"file/deep: the folder cannot be made: Not a directory\n"):
        tf.TraceWriter(tmp_path / "file" / "deep", stages=("lm_head",), layers=())


def test_a_stage_lies_where_its_kind_demands(tmp_path):
    assert tf.stage_path(tmp_path, "ffn_up", 12) == tmp_path / "layer-12" / "ffn_up.bin"
    assert tf.stage_path(tmp_path, "lm_head", None) == tmp_path / "lm_head.bin"
    for stage, layer, message in (
        ("../x", 0, "^unknown stage '../x'$"),
        ("lm_head", 0, "^stage 'lm_head' cannot belong to layer 0$"),
        ("ffn_up", None, "^stage 'ffn_up' cannot belong to layer None$"),
    ):
        with pytest.raises(ValueError, match=message):
            tf.stage_path(tmp_path, stage, layer)


def place(document, path, value):
    """Sets (or with ... removes) what lies at a path of keys."""
    *above, last = path
    for key in above:
        document = document[key]
    if value is ...:
        del document[last]
    else:
        document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "aprt-trace/2", "the format is 'aprt-trace/2', not 'aprt-trace/1'"),
        (("format",), ..., "the format is None, not 'aprt-trace/1'"),
        (("tokens",), ..., "the key 'tokens' is missing"),
        (("tokens",), [], "tokens must be a list of ids, not []"),
        (("tokens",), [1, True], "tokens must be a list of ids, not [1, True]"),
        (("tokens",), [1, -1], "tokens must be a list of ids, not [1, -1]"),
        (("tokens",), "1 2", "tokens must be a list, not '1 2'"),
        (("path",), "gpu", "path must be one of reference, fast, transformers, llama-cpp, not 'gpu'"),
        (("prompt",), None, "prompt must be text, not None"),
        (("missing",), "ffn_silu", "missing must be a list, not 'ffn_silu'"),
        (("missing",), ["silu"], "missing must be a list of stages, and 'silu' is none"),
        (("missing",), [3], "missing must be a list of stages, and 3 is none"),
        (("missing",), ["ffn_silu"], "ffn_silu is listed as missing, and given"),
        (("model",), "tiny", "model must be an object, not 'tiny'"),
        (("model", "name"), ..., "the key 'name' is missing"),
        (("model", "sha256"), "0A" * 32, f"sha256 must be 64 hex digits, not {'0A' * 32!r}"),
        (("tensors",), {}, "tensors must be a list, not {}"),
        (("tensors", 0), 7, "a tensor must be an object, not 7"),
        (("tensors", 0, "layer"), ..., "the key 'layer' is missing"),
        (("tensors", 0, "layer"), True, "layer must be an integer, not True"),
        (("tensors", 0, "layer"), -1, "stage embedding cannot belong to layer -1"),
        (("tensors", 0, "layer"), None, "stage embedding cannot belong to layer None"),
        (
            ("tensors", 0, "layer"),
            1,
            "the file of embedding must be 'layer-1/embedding.bin', not 'layer-0/embedding.bin'",
        ),
        (("tensors", 0, "stage"), "secret", "unknown stage 'secret'"),
        (("tensors", 0, "shape"), [], "shape must be a list of positive integers, not []"),
        (("tensors", 0, "shape"), [3, 0], "shape must be a list of positive integers, not [3, 0]"),
        (("tensors", 0, "shape"), [3, 2.0], "shape must be a list of positive integers, not [3, 2.0]"),
        (("tensors", 0, "file"), "../x.bin", "the file of embedding must be 'layer-0/embedding.bin', not '../x.bin'"),
        (("tensors", 0, "file"), "/etc/x", "the file of embedding must be 'layer-0/embedding.bin', not '/etc/x'"),
    ],
)
def test_a_manifest_with_one_wrong_value_is_refused(tmp_path, path, value, message):
    trace(tmp_path)
    file = tmp_path / "manifest.json"
    document = json.loads(file.read_bytes())
    place(document, path, value)
    file.write_text(json.dumps(document))
    with pytest.raises(EngineError) as caught:
        tf.read_manifest(tmp_path)
    assert str(caught.value) == f"{file}: {message}\n  hint: write the folder again with `apr trace`"


def test_a_manifest_that_lists_a_tensor_twice_is_refused(tmp_path):
    trace(tmp_path)
    file = tmp_path / "manifest.json"
    document = json.loads(file.read_bytes())
    document["tensors"].append(document["tensors"][0])
    file.write_text(json.dumps(document))
    with pytest.raises(EngineError, match=r"manifest\.json: a tensor is listed twice\n"):
        tf.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON: Expecting value"),
        (b'{"format": ', "not JSON: Expecting value"),
        (b"\xff\xfe\xfd", "not JSON: "),
        (b"[" * 100_000, "not JSON: maximum recursion depth exceeded"),
        (b"[]", r"the format is \[\], not 'aprt-trace/1'"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(EngineError, match=rf"manifest\.json: {message}"):
        tf.read_manifest(tmp_path)


def test_a_missing_manifest_is_an_error_with_its_path(tmp_path):
    with pytest.raises(EngineError, match=rf"^{tmp_path}/manifest\.json: cannot be read: No such file or directory$"):
        tf.read_manifest(tmp_path)


def test_a_manifest_that_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(
        EngineError, match=r"manifest\.json: path must be one of reference, fast, transformers, llama-cpp, not 'gpu'"
    ):
        trace(tmp_path, path="gpu")
    assert not (tmp_path / "manifest.json").exists()


# ---------------------------------------------------------------- a run that fails


def failing(folder, error):
    """A trace of two tensors that ends in an error."""
    with tf.TraceWriter(folder, stages=NAMES, layers=range(2)) as writer:
        writer.tap("embedding", 0, np.zeros(3, np.float32))
        writer.tap("attn_norm", 1, np.zeros(3, np.float32))
        assert {"layer-0/embedding.bin", "layer-1/attn_norm.bin"} <= set(files(folder))
        raise error


@pytest.mark.parametrize("error", [EngineError("no"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_no_folder_that_it_made(tmp_path, error):
    with pytest.raises(type(error)):
        failing(tmp_path / "a/b", error)
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_fails_leaves_what_was_there_before(tmp_path):
    (tmp_path / "b/layer-1").mkdir(parents=True)
    (tmp_path / "b/layer-1/mine.txt").write_text("mine")
    with pytest.raises(EngineError, match=r"^no$"):
        failing(tmp_path / "b", EngineError("no"))
    left = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))]
    assert left == ["b", "b/layer-1", "b/layer-1/mine.txt"]


def test_a_block_that_ends_keeps_its_files(tmp_path):
    with tf.TraceWriter(tmp_path / "b", stages=["embedding"], layers=[0]) as writer:
        writer.tap("embedding", 0, np.zeros(3, np.float32))
    assert list(files(tmp_path)) == ["b/layer-0/embedding.bin"]
