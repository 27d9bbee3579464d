"""Tests of engine.oracles.proof: each defect that a dumper may have is planted in one, and named."""

import re
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from engine.arithmetic import HonestPath, arithmetic_named
from engine.bisection.floor import HalfProducts
from engine.bisection.stages import name_of
from engine.errors import EngineError
from engine.model import Weight, read_model
from engine.opening import open_file
from engine.oracles import MODULES, MissingLibraryError, fit, open_oracle, proof
from engine.reference import ReferencePath
from engine.registry import locate
from engine.stages import NAMES, WHOLE
from tests.engine.oracles import fake
from tests.engine.oracles.fake import Fake, installed, moved

LAYERS = {proof.PACKAGED: 4, "small-llama": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The models to prove on, by name."""
    return {path.stem: path for path in proof.known_good(tmp_path_factory.mktemp("models"))}


def proved(path, kind, dtype="float32"):
    return proof.check(kind(path, dtype), read_model(open_file(path)))


def refusal(reason, dtype="float32"):
    return re.escape(f"the oracle transformers ({dtype}) failed its proof on a known-good model: {reason}")


def test_the_models_pair_halves_and_neighbours_and_have_the_tokens(models):
    configs = {name: read_model(open_file(path)).config for name, path in models.items()}
    assert list(configs) == ["tiny-qwen2-f16", "small-llama"]
    assert [(c.architecture, c.pairing, c.qkv_bias, c.tied) for c in configs.values()] == [
        ("qwen2", "halves", True, True),
        ("llama", "adjacent", False, False),
    ]
    for c in configs.values():
        assert max(proof.TOKENS) < c.vocab
        assert c.heads > c.kv_heads > 1
        assert c.hidden != c.ffn


@pytest.mark.parametrize("name", LAYERS)
def test_an_honest_oracle_is_believed_and_every_stage_was_looked_at(models, name):
    stages = proved(models[name], Fake)
    expected = {(stage, None) if stage in WHOLE else (stage, 0) for stage in NAMES}
    assert expected <= stages.keys()
    assert len(stages) == 1 + 17 * LAYERS[name] + 2


def test_a_stage_that_an_oracle_cannot_give_is_not_asked_for(models):
    class Lacking(Fake):
        missing = ("ffn_silu", "lm_head")

    stages = proved(models["small-llama"], Lacking)
    assert {stage for stage, _ in stages} == set(NAMES) - {"ffn_silu", "lm_head"}


# ---------------------------------------------------------------- memory


class Reused(Fake):
    """One buffer for each stage, as an engine keeps it: a layer writes over the one before."""

    def __init__(self, *options):
        super().__init__(*options)
        self.buffers = {}

    def hand_over(self, capture, stage, layer, array):
        buffer = self.buffers.setdefault(stage, array)
        buffer[:] = array
        capture(stage, layer, buffer)


def test_memory_that_a_later_layer_writes_to_is_told(models):
    with pytest.raises(EngineError, match=refusal("attn_norm of layer 0 was changed after it was captured")):
        proved(models["small-llama"], Reused)


def test_memory_that_the_next_forward_pass_writes_to_is_told(models):
    class Kept(Fake):
        kept = ()

        def forward(self, tokens, capture=None):
            for array in self.kept:
                array[0] += 1
            self.kept = []
            return super().forward(tokens, capture)

        def hand_over(self, capture, stage, layer, array):
            if stage == "final_norm":
                self.kept.append(array)
            capture(stage, layer, array)

    with pytest.raises(EngineError, match=refusal("final_norm was changed after it was captured")):
        proved(models["small-llama"], Kept)


def test_stages_that_share_memory_are_told_even_if_nobody_writes_to_it(models):
    class Shared(Fake):
        product = None

        def hand_over(self, capture, stage, layer, array):
            if stage == "qkv_matmul":
                self.product = array
            capture(stage, layer, self.product if stage == "qkv_bias" else array)  # without a bias they are equal

    with pytest.raises(EngineError, match=refusal("qkv_matmul of layer 0 and qkv_bias of layer 0 share memory")):
        proved(models["small-llama"], Shared)


# ---------------------------------------------------------------- what runs


def test_a_capture_that_changes_the_last_bit_of_a_logit_is_told(models):
    class Touching(Fake):
        def forward(self, tokens, capture=None):
            logits = super().forward(tokens, capture)
            if capture is not None:
                logits[-1] = np.nextafter(logits[-1], np.float32(np.inf))
            return logits

    with pytest.raises(EngineError, match=refusal("its logits are others while stages are captured")):
        proved(models["small-llama"], Touching)


def test_a_capture_whose_value_takes_the_place_of_a_stage_is_told(models):
    class Injecting(Fake):
        def forward(self, tokens, capture=None):
            return fake.ReferencePath(self.model).forward(tokens, capture)

    with pytest.raises(EngineError, match=refusal("its logits are others while stages are captured")):
        proved(models["small-llama"], Injecting)


def test_an_lm_head_that_is_not_the_logits_is_told(models):
    class Other(Fake):
        def hand_over(self, capture, stage, layer, array):
            if stage == "lm_head":
                array[5] = np.nextafter(array[5], np.float32(np.inf))
            capture(stage, layer, array)

    with pytest.raises(EngineError, match=refusal("the stage lm_head is not the logits that it returns")):
        proved(models["small-llama"], Other)


def test_a_library_that_names_its_parts_otherwise_is_told(models):
    class Renamed(Fake):
        def forward(self, tokens, capture=None):
            raise AttributeError("no attribute 'q_proj'")

    with pytest.raises(EngineError, match=refusal("its stages cannot be captured: AttributeError: no attribute")):
        proved(models["small-llama"], Renamed)


# ---------------------------------------------------------------- which stage it is

C = proof.SMALL_LLAMA.config


def halved(array):
    """Queries and keys in front of each row from pairs to halves: the layout of the library, not undone."""
    width = min(array.shape[1], C.q_width + C.kv_width)
    heads = array[:, :width].reshape(len(array), -1, C.head_dim // 2, 2).swapaxes(2, 3)
    return np.concatenate([heads.reshape(len(array), -1), array[:, width:]], axis=1)


PLANTED = {
    "the embedding of another token": ("embedding", lambda x: np.ascontiguousarray(x[::-1]), "embedding of layer 0"),
    "queries transposed": (
        "q_post_rope",
        lambda x: np.ascontiguousarray(x.reshape(len(x), C.heads, -1).swapaxes(1, 2)).reshape(x.shape),
        "q_post_rope of layer 0",
    ),
    "queries and keys in halves": (
        ("qkv_matmul", "qkv_bias", "q_post_rope", "k_post_rope"),
        halved,
        "qkv_matmul of layer 0",
    ),
    "scores without scale": ("attn_scores", lambda x: x * np.float32(np.sqrt(C.head_dim)), "attn_scores of layer 0"),
    "scores without mask": (
        "attn_scores",
        lambda x: np.where(np.isfinite(x), x, np.float32(-1e9)),
        "attn_scores of layer 0",
    ),
    "softmax transposed": (
        "attn_softmax",
        lambda x: np.ascontiguousarray(x.transpose(2, 1, 0)),
        "attn_softmax of layer 0",
    ),
    "a NaN": ("ffn_up", lambda x: np.where(x == x[0, 0], np.float32(np.nan), x), "ffn_up of layer 0"),
    "values moved": ("ffn_out", moved, "ffn_out of layer 0"),
    "a norm before its gain": ("final_norm", lambda x: x * np.float32(1.01), "final_norm"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_stage_that_its_inputs_do_not_give_is_named(models, case):
    stages, change, named = PLANTED[case]

    class Wrong(Fake):
        def hand_over(self, capture, stage, layer, array):
            capture(stage, layer, change(array) if stage in stages else array)

    with pytest.raises(EngineError, match=refusal(f"{named} is not what its inputs give: they differ by ")):
        proved(models["small-llama"], Wrong)


def test_two_stages_that_were_exchanged_are_told(models):
    exchanged = {"ffn_gate": "ffn_up", "ffn_up": "ffn_gate"}

    class Exchanged(Fake):
        def hand_over(self, capture, stage, layer, array):
            capture(exchanged.get(stage, stage), layer, array)

    with pytest.raises(EngineError, match=refusal("ffn_gate of layer 0 is not what its inputs give")):
        proved(models["small-llama"], Exchanged)


def test_a_defect_in_the_last_layer_alone_is_told(models):
    class Late(Fake):
        def hand_over(self, capture, stage, layer, array):
            capture(stage, layer, moved(array) if (stage, layer) == ("attention", 3) else array)

    with pytest.raises(EngineError, match=refusal("attention of layer 3 is not what its inputs give")):
        proved(models["tiny-qwen2-f16"], Late)


# ---------------------------------------------------------------- the floor


class Rounding(Fake):
    """An engine of fewer digits; a defect of one stage is computed with, and not only handed over.

    off  by what each entry of the stage `at` is wrong
    """

    at, off = (None, 0.0)

    def __init__(self, path, dtype, at=None, off=0.0):
        super().__init__(path, dtype)
        self.at, self.off = at, off
        self.missing = ("ffn_silu",) if self.name == "llama-cpp" else ()

    def forward(self, tokens, capture=None):
        rng = np.random.default_rng(3)

        def tap(stage, layer, array):
            if (stage, layer) == self.at:
                array = array + np.float32(self.off) * rng.choice(np.float32([-1, 1]), array.shape)
            else:
                array = array.copy()
            if capture is not None and stage not in self.missing:
                capture(stage, layer, array.copy())
            return array

        arithmetic = self.variant if self.name == "transformers" else "float32"
        path = HonestPath(self.model, arithmetic_named(arithmetic))
        if self.name == "llama-cpp":
            path = HalfProducts(self.model)
        return path.forward(tokens, tap)


class RoundingLlamaCpp(Rounding):
    name = "llama-cpp"


KINDS = [(Rounding, "float32"), (Rounding, "float16"), (Rounding, "bfloat16"), (RoundingLlamaCpp, "cpu")]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("name", LAYERS)
def test_honest_rounding_is_believed(models, name, kind, dtype):
    assert proved(models[name], kind, dtype)


class NextFrequencies(Fake):
    """A library whose powers give the next float32 number for each rotary frequency."""

    def forward(self, tokens, capture=None):
        turned = ReferencePath.angles

        def angles(path, positions):
            return turned(path, positions) * (1 + 2.0**-23)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ReferencePath, "angles", angles)
            return super().forward(tokens, capture)


def test_frequencies_that_are_a_step_off_are_believed_at_far_positions_too(models):
    path = models["small-llama"]
    assert proof.check(NextFrequencies(path, "float32"), read_model(open_file(path)), proof.LONG)


def test_a_position_that_is_off_by_a_thousandth_is_not_believed(models):
    class Off(Fake):
        def forward(self, tokens, capture=None):
            turned = ReferencePath.angles
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ReferencePath, "angles", lambda path, at: turned(path, at + 0.001))
                return super().forward(tokens, capture)

    path = models["small-llama"]
    with pytest.raises(EngineError, match=refusal("q_post_rope of layer 0 is not what its inputs give")):
        proof.check(Off(path, "float32"), read_model(open_file(path)), proof.LONG)


def test_what_honest_arithmetic_cannot_hold_is_no_fault_but_a_nan_that_came_from_numbers_is(models):
    """Scaled by 1e5, the gain of the last norm takes its output past the end of float16."""
    path = models["small-llama"]
    model = read_model(open_file(path))
    big = replace(model, final_norm=model.final_norm * np.float32(1e5))

    def opened(kind):
        oracle = kind(path, "float16")
        oracle.model = big
        return oracle

    with np.errstate(over="ignore", invalid="ignore"):
        stages = proof.check(opened(Rounding), big)
    assert not np.isfinite(stages["final_norm", None]).all()

    class Broken(Rounding):
        at, off = ("ffn_up", 1), np.nan

        def __init__(self, path, dtype):
            super().__init__(path, dtype, Broken.at, Broken.off)

    with pytest.raises(EngineError, match=refusal("ffn_up of layer 1 is not what its inputs give", "float16")):
        proof.check(opened(Broken), big)


@contextmanager
def floors_read(module):
    """The floors, root mean square, beside which this module reads errors meanwhile: a list of each stage."""
    found = {}
    take = module.read

    def keep(a, b, stage, *rest):
        reading = take(a, b, stage, *rest)
        found.setdefault(stage, []).append(reading.floor)
        return reading

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read", keep)
        yield found


def floors(path, kind, dtype):
    """What an honest oracle of this kind may err by at each stage, on its own inputs: root mean square."""
    with floors_read(fit) as found:
        proved(path, kind, dtype)
    return found


def test_what_a_stage_carries_from_those_before_it_is_not_its_own(models):
    path, last = models["tiny-qwen2-f16"], ("post_ffn_residual", 3)
    own = floors(path, Rounding, "bfloat16")["post_ffn_residual"][-1]
    rounded, exact = proved(path, Rounding, "bfloat16")[last], proved(path, Fake)[last]
    assert np.sqrt(np.mean((rounded - exact) ** 2)) > 3 * own


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_an_error_of_three_times_the_floor_in_one_stage_is_refused(models, kind, dtype):
    path = models["small-llama"]
    missed = []
    for stage, each in floors(path, kind, dtype).items():
        at = (stage, None) if stage in WHOLE else (stage, len(each) - 1)
        with pytest.raises(EngineError) as caught:
            proved(path, partial(kind, at=at, off=3 * each[-1]), dtype)
        if f": {name_of(at)} is not what its inputs give: they differ by " not in str(caught.value):
            missed.append((at, str(caught.value)))
    assert not missed


# ---------------------------------------------------------------- how many, and of what shape


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        (lambda capture, stage, layer, array: None, "ffn_up of layer 1 is not captured"),
        (
            lambda capture, stage, layer, array: [capture(stage, layer, array) for _ in range(2)],
            "ffn_up of layer 1 was captured twice",
        ),
        (
            lambda capture, stage, layer, array: [capture(stage, at, array.copy()) for at in (layer, 7)],
            "ffn_up of layer 7 is captured, but not promised",
        ),
        (
            lambda capture, stage, layer, array: capture(stage, layer, array[None]),
            "ffn_up of layer 1 has the shape (1, 9, 96), not (9, 96)",
        ),
        (
            lambda capture, stage, layer, array: capture(stage, layer, array.astype(np.float64)),
            "ffn_up of layer 1 is no float32 array in C order",
        ),
        (
            lambda capture, stage, layer, array: capture(stage, layer, np.asfortranarray(array)),
            "ffn_up of layer 1 is no float32 array in C order",
        ),
    ],
)
def test_a_stage_comes_once_in_our_shape(models, defect, reason):
    class Wrong(Fake):
        def hand_over(self, capture, stage, layer, array):
            (defect if (stage, layer) == ("ffn_up", 1) else Fake.hand_over.__get__(self))(capture, stage, layer, array)

    with pytest.raises(EngineError, match=refusal(reason)):
        proved(models["small-llama"], Wrong)


# ---------------------------------------------------------------- who is asked


def test_an_oracle_is_opened_once_it_is_proved_and_not_proved_again(monkeypatch):
    checked = []
    check = proof.check

    def counted(oracle, model, tokens):
        checked.append((model.config.name, len(tokens)))
        return check(oracle, model, tokens)

    monkeypatch.setattr(proof, "check", counted)
    with installed(monkeypatch):
        oracle = open_oracle("transformers", locate("tiny-qwen2"))
        assert (oracle.model.path, fake.OPEN) == (locate("tiny-qwen2"), [oracle])
        oracle.close()
        assert checked == [("tiny-qwen2", 9), ("small llama", 9), ("small llama", 261)]
        open_oracle("transformers", locate("tiny-qwen2")).close()
        assert len(checked) == 3
        open_oracle("transformers", locate("tiny-qwen2"), dtype="float16").close()
        assert len(checked) == 6
    assert fake.OPEN == []


def test_an_oracle_that_fails_is_not_opened_and_asked_again_the_next_time(monkeypatch):
    with installed(monkeypatch, Reused):
        for _ in range(2):
            with pytest.raises(EngineError, match=refusal("attn_norm of layer 0 was changed")) as caught:
                open_oracle("transformers", locate("tiny-qwen2"))
            assert caught.value.hint == "it is not believed; fake 1.0 may be a version that this engine does not know"
    assert fake.OPEN == []


@pytest.fixture
def beside(monkeypatch, models):
    """Proves one kind of oracle, with another one installed, on the small llama alone."""
    monkeypatch.setattr(proof, "known_good", lambda folder: [models["small-llama"]])

    def prove(first, second, dtype="float32"):
        with installed(monkeypatch, first), monkeypatch.context() as patch:
            patch.setitem(MODULES, "second", __name__)
            patch.setitem(SECOND, "kind", second)
            proof.prove("transformers", dtype=dtype)

    return prove


def test_another_oracle_that_is_installed_must_agree(beside):
    """Each fits together by itself; they compute other models."""

    class Second(Fake):
        name, variant = "second", "cpu"

        def forward(self, tokens, capture=None):
            return super().forward([*tokens[:-1], tokens[-1] + 1], capture)

    beside(Fake, Fake)
    with pytest.raises(EngineError, match=refusal("embedding of layer 0 is not that of the oracle second: ")):
        beside(Fake, Second)
    assert fake.OPEN == []


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_two_that_round_agree_but_not_with_one_that_errs_by_four_times_their_floor(beside, models, dtype):
    """In a stage that both have, also where much was carried to it."""
    with floors_read(proof) as found:
        beside(Rounding, RoundingLlamaCpp, dtype)
    for stage in ("attn_out", "ffn_up", "lm_head"):
        at = (stage, None) if stage in WHOLE else (stage, 1)
        wrong = partial(RoundingLlamaCpp, at=at, off=4 * found[stage][-1])
        with pytest.raises(EngineError, match=refusal(f"{name_of(at)} is not that of the oracle second: ", dtype)):
            beside(Rounding, wrong, dtype)
    assert fake.OPEN == []


LATE = {
    "softmax past the padding of keys": ("attn_softmax", 256),
    "attention past the first tokens": ("attention", 9),
}


@pytest.mark.parametrize("case", LATE)
def test_a_defect_that_begins_after_the_short_prompt_is_told(beside, case):
    at, start = LATE[case]

    class Late(Fake):
        def hand_over(self, capture, stage, layer, array):
            if (stage, layer) == (at, 1):
                array[start:] *= np.float32(1.5)
            capture(stage, layer, array)

    class Second(Fake):
        name, variant = "second", "cpu"

    with pytest.raises(EngineError, match=refusal(f"{at} of layer 1 is not what its inputs give")):
        beside(Late, Second)


# ---------------------------------------------------------------- which side is wrong


@pytest.fixture
def ours_wrong(monkeypatch):
    """Our embedding is cut to 16 bits, in the reference path and in every arithmetic: a fault in code that they share.

    Gives fakes that are spared, by their name.
    """
    right = Weight.dequantised

    def cut(weight):
        values = right(weight)
        if "embd" in weight.name:
            values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        return values

    monkeypatch.setattr(Weight, "dequantised", cut)

    class Right(Fake):
        def forward(self, tokens, capture=None):
            with monkeypatch.context() as patch:
                patch.setattr(Weight, "dequantised", right)
                return super().forward(tokens, capture)

    class Second(Right):
        name, variant = "second", "cpu"

    return {"transformers": Right, "second": Second}


def test_a_fault_of_ours_that_two_oracles_agree_about_is_ours(beside, ours_wrong):
    with pytest.raises(EngineError) as caught:
        beside(ours_wrong["transformers"], ours_wrong["second"])
    assert caught.value.args[0].startswith(
        "our reference path is wrong on a known-good model: the oracles transformers and second agree in embedding of "
        "layer 0, and it gives something else: they differ by "
    )
    assert caught.value.hint == (
        "no comparison with it tells anything until what it reads, dequantises or computes there is mended, or else "
        "what captures from both"
    )
    assert fake.OPEN == []


EITHER = (
    "either fake 1.0 is a version that this engine does not know, or our reference path is wrong; another oracle, "
    "where it is installed and gives this stage, tells which"
)
THEIRS = "it is not believed; fake 1.0 may be a version that this engine does not know"


def missing(path, dtype):
    raise MissingLibraryError("no module")


class Swapped(Fake):
    def hand_over(self, capture, stage, layer, array):
        capture(stage, layer, np.ascontiguousarray(array[::-1]) if stage == "embedding" else array)


class Moved(Fake):
    name, variant = "second", "cpu"

    def hand_over(self, capture, stage, layer, array):
        capture(stage, layer, moved(array) if stage == "embedding" else array)


class Without(Fake):
    name, variant, missing = "second", "cpu", ("embedding",)


class Agreeing(Fake):
    name, variant = "second", "cpu"


@pytest.mark.parametrize(
    ("second", "hint"),
    [(missing, EITHER), (Moved, EITHER), (Without, EITHER), (Agreeing, THEIRS)],
    ids=["none", "another that errs otherwise", "one that lacks the stage", "one that fits"],
)
def test_who_errs_is_open_unless_another_oracle_tells(beside, second, hint):
    with pytest.raises(EngineError, match=refusal("embedding of layer 0 is not what its inputs give")) as caught:
        beside(Swapped, second)
    assert caught.value.hint == hint
    assert fake.OPEN == []


def test_another_oracle_that_is_not_installed_is_not_waited_for(monkeypatch, models):
    asked = []
    monkeypatch.setattr(proof, "known_good", lambda folder: [models["small-llama"]])

    def kind(path, dtype):
        asked.append(path.stem)
        raise MissingLibraryError("no module")

    with installed(monkeypatch), monkeypatch.context() as patch:
        patch.setitem(MODULES, "second", __name__)
        patch.setitem(SECOND, "kind", kind)
        proof.prove("transformers")
    assert asked == ["small-llama"]


SECOND = {"kind": Fake}


def open_model(path, dtype="float32"):
    """This module as an oracle of its own."""
    return SECOND["kind"](path, dtype)
