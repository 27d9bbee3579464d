"""llama.cpp as an oracle: which stages come, in which layout, and how far they lie from ours.

The reference path is forced: its tap puts llama.cpp's output in at every stage, so that what it computes for a stage
is from llama.cpp's own input, and the difference is what llama.cpp rounds in that stage alone. It rounds activations in
its products, to the type that goes with the weights; everywhere else it computes in float32. So a tensor in a wrong
layout, or that of another node, is off by ten orders of magnitude.
"""

import ctypes
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from engine.errors import EngineError
from engine.opening import open_model
from engine.paths import open_path
from engine.registry import locate
from engine.stages import NAMES, WHOLE
from tests.engine import checkpoints
from tests.engine.model_files import keys, tensors, write

pytestmark = pytest.mark.oracle
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `llama-cpp`)")

from engine.oracles import ggml, llama_cpp  # noqa: E402

PROMPT = "The file is closed when the block ends, even if an exception occurs."
PRODUCTS = frozenset({"qkv_matmul", "attn_out", "ffn_gate", "ffn_up", "ffn_out", "lm_head"})
COPIED = frozenset({"embedding", "qkv_bias", "post_attn_residual", "post_ffn_residual"})
"""Sums of two float32 numbers at most: there is one right result."""
FLOAT32 = 1e-12
"""NMSE of anything else; measured: 2e-14 and less, but 8e-13 after the rotation at position 400 (angles in float32)."""
ISOLATED = {"F32": 1e-12, "F16": 2e-7, "BF16": 1e-5, "Q8_0": 3e-4}
"""NMSE of a product alone, by the weights; measured: 4e-14, 8e-8, 5e-6, 1.1e-4."""
MODELS = {
    "tiny-qwen2": (1e-3, 5e-3),
    "tiny-qwen2-f16": (2e-7, 1e-6),
    "smollm2-135m": (5e-4, 2e-2),
}
"""NMSE of a product alone, and of any stage with what was carried; measured on SmolLM2: 1.7e-4 and 4.7e-3."""


@cache
def located(name):
    try:
        return locate(name)
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def oracles():
    """Opens an oracle by the path of its model, once."""
    opened = {}

    def of(path):
        if path not in opened:
            opened[path] = llama_cpp.open_model(path)
        return opened[path]

    yield of
    for one in opened.values():
        one.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Random models, by architecture, options of model_files.tensors, and format of the weights."""
    folder = tmp_path_factory.mktemp("small")

    @cache
    def of(arch, bias=None, tied=None, quantise="F32"):
        path = folder / f"{arch}-{bias}-{tied}-{quantise}.gguf"
        return write(path, keys(arch, context_length=600), tensors(arch, bias=bias, tied=tied), quantise)

    return of


def captured(runner, tokens):
    stages = {}

    def tap(stage, layer, array):
        assert (stage, layer) not in stages
        stages[stage, layer] = np.array(array)

    logits = runner.forward(tokens, tap)
    return logits, stages


def expected(config):
    """What the oracle gives, in the order in which it comes."""
    layers = [(stage, layer) for layer in range(config.n_layers) for stage in NAMES if stage not in WHOLE]
    kept = [key for key in layers if key[0] != "ffn_silu" and (key[0] != "embedding" or key[1] == 0)]
    return [*kept, ("final_norm", None), ("lm_head", None)]


def nmse(got, want):
    """Of the values that are finite, which must be the same ones on both sides."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype == np.float32
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    assert np.isfinite(got[finite]).all()
    got, want = got[finite].astype(np.float64), want[finite].astype(np.float64)
    return float(((got - want) ** 2).sum() / (want**2).sum())


def isolated(model, tokens, theirs):
    """NMSE of each of their stages from the one that the reference path computes of their input to it."""
    found = {}

    def tap(stage, layer, array):
        if (stage, layer) not in theirs:
            return None
        found[stage, layer] = nmse(theirs[stage, layer], array)
        return theirs[stage, layer]

    open_path(model, "reference", capacity=len(tokens)).forward(tokens, tap)
    return found


def assert_isolated(found, product):
    for (stage, layer), error in found.items():
        limit = product if stage in PRODUCTS else 0.0 if stage in COPIED else FLOAT32
        assert error <= limit, (stage, layer)


@pytest.mark.parametrize("name", [*list(MODELS)[:2], pytest.param("smollm2-135m", marks=pytest.mark.needs_model)])
def test_19_stages_of_every_layer_agree_with_the_reference_path_alone_and_with_what_is_carried(oracles, name):
    oracle, model = oracles(located(name)), open_model(located(name)).model
    tokens = oracle.tokens(PROMPT)
    logits, theirs = captured(oracle, tokens)
    assert oracle.missing == ("ffn_silu",)
    assert list(theirs) == expected(model.config)
    assert np.array_equal(logits, theirs["lm_head", None])
    product, carried = MODELS[name]
    assert_isolated(isolated(model, tokens, theirs), product)
    _, ours = captured(open_path(model, "reference", capacity=len(tokens)), tokens)
    for key, array in theirs.items():
        assert nmse(array, ours[key]) <= carried, key


@pytest.mark.parametrize("length", [1, 2, 4, 17, 255, 256, 257, 400])
@pytest.mark.parametrize(
    "options",
    [("qwen2",), ("llama",), ("llama", True, True), ("qwen2", False)],
    ids=lambda options: "-".join(map(str, options)),
)
def test_on_float32_weights_every_stage_agrees_to_float32_at_any_length(oracles, small, options, length):
    """Keys are padded to a multiple of 256; with 4 tokens, tokens and heads are as many."""
    path = small(*options)
    model, tokens = open_model(path).model, [index * 7 % 250 for index in range(length)]
    _, theirs = captured(oracles(path), tokens)
    assert list(theirs) == expected(model.config)
    assert_isolated(isolated(model, tokens, theirs), ISOLATED["F32"])
    _, ours = captured(open_path(model, "reference", capacity=length), tokens)
    for key, array in theirs.items():
        assert nmse(array, ours[key]) <= 5e-12, key  # 2e-12 at length 400


@pytest.mark.parametrize("quantise", ["F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_only_products_round_and_they_round_as_their_weights_say(oracles, small, arch, quantise):
    path = small(arch, quantise=quantise)
    model, tokens = open_model(path).model, list(range(40, 60))
    found = isolated(model, tokens, captured(oracles(path), tokens)[1])
    assert_isolated(found, ISOLATED[quantise])
    assert min(error for (stage, _), error in found.items() if stage in PRODUCTS) > 100 * FLOAT32


def test_float16_weights_are_multiplied_with_activations_rounded_to_float16(oracles):
    path = located("tiny-qwen2-f16")
    layer = open_model(path).model.layers[0]
    _, theirs = captured(oracles(path), oracles(path).tokens(PROMPT))
    inputs = {
        "attn_out": ("attention", layer.attn_out),
        "ffn_up": ("ffn_norm", layer.up),
        "ffn_out": ("ffn_swigl", layer.down),
    }
    for stage, (source, weight) in inputs.items():
        rounded = theirs[source, 0].astype(np.float16).astype(np.float64)
        want = rounded @ weight.dequantised().astype(np.float64).T
        assert nmse(theirs[stage, 0], want.astype(np.float32)) <= FLOAT32, stage


@pytest.mark.parametrize("name", [*list(MODELS)[:2], pytest.param("smollm2-135m", marks=pytest.mark.needs_model)])
def test_capture_changes_no_bit_of_the_logits(oracles, name):
    oracle = oracles(located(name))
    for tokens in ([5], oracle.tokens(PROMPT)):
        before = oracle.forward(tokens)
        logits, _ = captured(oracle, tokens)
        assert np.array_equal(logits, before)
        assert np.array_equal(oracle.forward(tokens), before)


def test_without_capture_no_callback_is_set(oracles, monkeypatch):
    oracle = oracles(located("tiny-qwen2"))
    monkeypatch.setattr(llama_cpp._Stages, "evaluated", None)
    assert oracle.forward([5, 6]).shape == (oracle.config.vocab,)


def test_a_captured_array_is_the_receivers_own(oracles):
    oracle, held = oracles(located("tiny-qwen2")), []
    logits = oracle.forward([5, 6, 7], lambda stage, layer, array: held.append((array, array.copy())))
    kept = logits.copy()
    oracle.forward([9, 10, 11, 12], lambda *_: None)
    assert np.array_equal(logits, kept)
    arrays = [array for array, _ in held]
    for index, (array, copy) in enumerate(held):
        assert np.array_equal(array, copy)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert not any(np.shares_memory(array, other) for other in arrays[index + 1 :])


def test_keys_and_values_in_float16_are_told_and_round_more(oracles):
    path = located("tiny-qwen2-f16")
    model, tokens = open_model(path).model, oracles(path).tokens(PROMPT)
    half = llama_cpp.open_model(path, kv_cache="float16")
    try:
        found = isolated(model, tokens, captured(half, tokens)[1])
    finally:
        half.close()
    assert half.variant == "cpu, flash attention off, keys and values in float16"
    assert oracles(path).variant == "cpu, flash attention off, keys and values in float32"
    assert max(error for (stage, _), error in found.items() if stage == "attn_scores") > 100 * FLOAT32


@pytest.mark.parametrize("name", ["tiny-qwen2", pytest.param("smollm2-135m", marks=pytest.mark.needs_model)])
@pytest.mark.parametrize("prompt", [PROMPT, "", "<|im_start|>user\nHallo Wörld 🙂<|im_end|>\n", "\x00a"])
def test_tokens_are_those_of_our_tokenizer(oracles, name, prompt):
    path = located(name)
    assert oracles(path).tokens(prompt) == open_model(path).tokenizer.encode(prompt)


def test_what_capture_raises_comes_out_and_the_oracle_goes_on(oracles):
    oracle, before = oracles(located("tiny-qwen2")), oracles(located("tiny-qwen2")).forward([5, 6])

    def capture(stage, layer, array):
        if (stage, layer) == ("ffn_up", 2):
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match=r"^stop$"):
        oracle.forward([5, 6], capture)
    assert np.array_equal(oracle.forward([5, 6]), before)


def test_a_folder_of_the_hugging_face_layout_is_refused(tmp_path):
    folder = tmp_path / "folder"
    checkpoints.write(folder, checkpoints.config("llama"), checkpoints.weights("llama"))
    with pytest.raises(
        EngineError, match=r"folder: llama.cpp reads GGUF files, this is a model of the Hugging Face layout\n"
    ):
        llama_cpp.open_model(folder)


@pytest.fixture
def logger():
    """Gives the address of the function that llama.cpp logs with."""
    c = llama_cpp._llama_cpp()

    def address():
        function, data = c.llama_log_callback(), ctypes.c_void_p()
        c.llama_log_get(ctypes.byref(function), ctypes.byref(data))
        return ctypes.cast(function, ctypes.c_void_p).value

    return address


def test_llama_cpp_is_quiet_and_logs_afterwards_as_before(capfd, logger):
    before = logger()
    oracle = llama_cpp.open_model(located("tiny-qwen2"))
    oracle.forward([5, 6], lambda *_: None)
    oracle.close()
    assert logger() == before
    assert capfd.readouterr() == ("", "")


def test_a_model_that_llama_cpp_cannot_load_is_refused_with_what_it_says(tmp_path, capfd):
    metadata = keys("llama") | {"tokenizer.ggml.model": "gpt9"}
    path = write(tmp_path / "model.gguf", metadata, tensors("llama"))
    with pytest.raises(EngineError, match=r"model.gguf: llama.cpp cannot load it: .*unknown tokenizer: 'gpt9'"):
        llama_cpp.open_model(path)
    assert capfd.readouterr().err == ""


def test_a_token_outside_the_vocabulary_is_refused_with_what_llama_cpp_says(oracles):
    with pytest.raises(EngineError, match=r"^llama-cpp: llama.cpp cannot run the prompt \(-1\): .*invalid token"):
        oracles(located("tiny-qwen2")).forward([5, 4000])


def test_a_prompt_longer_than_the_context_is_refused(oracles):
    with pytest.raises(EngineError, match=r"^--prompt: the prompt has 513 tokens, the model's context is 512\n"):
        oracles(located("tiny-qwen2")).forward([5] * 513)


def test_an_unknown_kind_of_cache_is_refused():
    with pytest.raises(EngineError, match=r"^unknown kind of cache 'q8_0'\n  hint: one of: float32, float16$"):
        llama_cpp.open_model(located("tiny-qwen2"), kv_cache="q8_0")


def test_a_missing_library_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(EngineError, match=r"hint: install what it needs: pip install 'pv-contracts\[llama-cpp\]'$"):
        llama_cpp.open_model(located("tiny-qwen2"))


def test_a_library_that_does_not_load_is_told(monkeypatch):
    def broken(oracle, name):
        raise RuntimeError("libllama.so: cannot open shared object file")

    monkeypatch.setattr(llama_cpp, "library", broken)
    with pytest.raises(EngineError, match=r"^the oracle llama-cpp cannot be loaded: libllama.so: cannot open"):
        llama_cpp.open_model(located("tiny-qwen2"))


def test_tensors_in_another_layout_are_refused_before_anything_is_read(monkeypatch):
    fields = list(ggml._Tensor._fields_)
    order = [0, 1, 3, 2, 4, 5, 6, 7], [0, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 5, 6, 7]
    for kept in order:
        changed = type("Changed", (ggml._Tensor.__base__,), {"_fields_": tuple(fields[index] for index in kept)})
        changed.op = 0
        monkeypatch.setattr(ggml, "_Tensor", changed)
        with pytest.raises(EngineError, match=r"are laid out otherwise than this oracle reads them\n  hint: install"):
            llama_cpp.open_model(located("tiny-qwen2"))


def test_a_function_that_ggml_lacks_is_told(monkeypatch):
    monkeypatch.setitem(ggml._FUNCTIONS, "ggml_new_function", (None, []))
    with pytest.raises(EngineError, match=r"^llama-cpp: ggml has no function ggml_new_function\n"):
        llama_cpp.open_model(located("tiny-qwen2"))


def test_a_closed_oracle_is_not_used():
    oracle = llama_cpp.open_model(located("tiny-qwen2"))
    oracle.close()
    oracle.close()
    with pytest.raises(ValueError, match=r"^the oracle is closed$"):
        oracle.forward([5])
    with pytest.raises(ValueError, match=r"^the oracle is closed$"):
        oracle.tokens("a")


@pytest.mark.parametrize("end", ["oracle.close()", "", "del oracle"])
def test_a_process_that_used_it_ends_well_and_says_nothing_of_its_own(end):
    script = (
        "from engine.oracles.llama_cpp import open_model; from engine.registry import locate\n"
        "oracle = open_model(locate('tiny-qwen2'))\n"
        f"oracle.forward([5, 6], lambda *_: None)\n{end}\nprint('done')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_stages_that_come_in_some_layers_only_are_missing(monkeypatch):
    """The values of the second layer are not recognised before their bias is added."""
    part_of = llama_cpp._Stages._part_of
    monkeypatch.setattr(
        llama_cpp._Stages,
        "_part_of",
        lambda self, tensor: (None, None) if (found := part_of(self, tensor)) == ("v", 1) else found,
    )
    oracle = llama_cpp.open_model(located("tiny-qwen2"))
    assert oracle.missing == ("qkv_matmul", "ffn_silu")
    _, stages = captured(oracle, [5, 6])
    assert not {stage for stage, _ in stages} & set(oracle.missing)
    monkeypatch.setattr(llama_cpp._Stages, "_part_of", lambda self, tensor: (None, None))
    with pytest.raises(EngineError, match=r"^llama-cpp: llama.cpp did not give embedding, attn_norm, "):
        captured(oracle, [5, 6])
    oracle.close()


@pytest.mark.parametrize(
    ("owner", "name", "value", "message"),
    [
        (llama_cpp._PRODUCTS, "ffn_up", "ffn_gate", r"computed ffn_gate of layer 0 out of turn, or twice$"),
        (llama_cpp._NODES, ("l_out", "ADD"), "none", r"computed attn_norm of layer 1 out of turn, or twice$"),
        (llama_cpp._NODES, ("kqv", "MUL_MAT"), "kq", r"computed kq of layer 0 out of turn, or twice$"),
        (
            llama_cpp._NODES,
            ("result_norm", "MUL"),
            "lm_head",
            r"lm_head has the lengths \(1, 1, 2, 256\), the prompt needs \(1, 1, 2, 2048\)$",
        ),
    ],
)
def test_a_graph_that_is_not_as_we_read_it_is_refused(oracles, monkeypatch, owner, name, value, message):
    oracle = oracles(located("tiny-qwen2"))
    monkeypatch.setitem(owner, name, value)
    with pytest.raises(EngineError, match=rf"^llama-cpp: llama.cpp('s)? {message}"):
        oracle.forward([5, 6], lambda *_: None)


def test_attention_to_padding_or_with_more_than_a_mask_is_refused(oracles, monkeypatch):
    oracle, read = oracles(located("tiny-qwen2")), ggml.Ggml.read
    for changed, message in (
        ("mask", "attends to keys that are not the prompt's$"),
        ("softmax", "attends to keys that are not the prompt's$"),
        ("rows", r"scores, softmax and mask have the lengths \(1, 4, 2, 256\), \(1, 4, 2, 256\) and \(1, 256\), "),
    ):

        def planted(self, tensor, changed=changed):
            array, name = read(self, tensor), self.name(tensor)
            if "mask" in name and changed == "mask":
                array[..., 2] = 0
            if "mask" in name and changed == "rows":
                array = array[..., :1, :]
            if name.startswith("kq_soft_max") and changed == "softmax":
                array[..., 2] = 1e-30
            return array

        monkeypatch.setattr(ggml.Ggml, "read", planted)
        with pytest.raises(EngineError, match=rf"^llama-cpp: llama.cpp('s)? {message}"):
            oracle.forward([5, 6], lambda *_: None)
    monkeypatch.setattr(ggml.Ggml, "parameter", lambda self, tensor, index: 0.125)
    with pytest.raises(
        EngineError, match=r"^llama-cpp: llama.cpp's softmax has no mask, or a slope or sinks beside it$"
    ):
        oracle.forward([5, 6], lambda *_: None)


def test_a_tensor_that_is_turned_or_of_another_type_is_not_read():
    reader = ggml.Ggml(llama_cpp._llama_cpp()._lib)
    context = reader._c.ggml_init(ggml._InitParams(1 << 16, None, True))
    try:
        plain = reader._c.ggml_new_tensor_4d(context, 0, 3, 5, 7, 2)
        for tensor in (
            reader._c.ggml_permute(context, plain, 0, 2, 1, 3),
            reader._c.ggml_new_tensor_4d(context, 1, 3, 5, 7, 2),
        ):
            with pytest.raises(
                EngineError, match=r"^llama-cpp: tensor '.*' of llama.cpp is of type .*: no plain F32\n"
            ):
                reader.read(tensor)
        ggml._Tensor.from_address(plain).ne[3] = 1
        reader._c.ggml_nbytes = lambda tensor: 840
        with pytest.raises(EngineError, match=r"^llama-cpp: tensor '' of llama.cpp has 840 bytes, which its lengths "):
            reader.read(plain)
    finally:
        reader._c.ggml_free(context)
