"""Tests of engine.oracles.watched: what an oracle does wrong with the model at hand alone, though it proved itself."""

import json

import numpy as np
import pytest

from engine.cli import main
from engine.oracles import watched
from engine.oracles.watched import UnfaithfulError
from engine.registry import locate
from tests.engine.model_files import keys, tensors, write
from tests.engine.oracles import fake
from tests.engine.oracles.fake import Fake, installed

TOKENS = [5, 6, 7]
HINT = "  hint: take another oracle; fake 1.0 may be a version that this engine does not know"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model that no oracle is proved on, known to the defects below by its name."""
    return write(tmp_path_factory.mktemp("large") / "large.gguf", keys("qwen2"), tensors("qwen2"), "Q8_0")


class OnLarge(Fake):
    """Honest on every other model."""

    @property
    def large(self):
        return self.path.stem == "large"


class Touching(OnLarge):
    def forward(self, tokens, capture=None):
        logits = super().forward(tokens, capture)
        if capture is not None and self.large:
            logits[-1] = np.nextafter(logits[-1], np.float32(np.inf))
        return logits


class Late(OnLarge):
    """The last layer's residual lies in memory that the next forward pass writes to."""

    kept = None

    def forward(self, tokens, capture=None):
        if self.kept is not None and self.large:
            self.kept[0] += 1
        return super().forward(tokens, capture)

    def hand_over(self, capture, stage, layer, array):
        if stage == "post_ffn_residual":
            self.kept = array
        capture(stage, layer, array)


class Reused(OnLarge):
    """One buffer for a stage of all layers."""

    buffer = None

    def hand_over(self, capture, stage, layer, array):
        if stage == "ffn_up" and self.large:
            self.buffer = array if self.buffer is None else self.buffer
            self.buffer[:] = array
            array = self.buffer
        capture(stage, layer, array)


class Twice(OnLarge):
    def hand_over(self, capture, stage, layer, array):
        capture(stage, layer, array)
        if stage == "final_norm" and self.large:
            capture(stage, layer, array.copy())


class Double(OnLarge):
    def hand_over(self, capture, stage, layer, array):
        capture(stage, layer, array.astype(np.float64) if stage == "ffn_silu" and self.large else array)


class OtherHead(OnLarge):
    def hand_over(self, capture, stage, layer, array):
        if stage == "lm_head" and self.large:
            array[0] = np.nextafter(array[0], np.float32(np.inf))
        capture(stage, layer, array)


DEFECTS = {
    Touching: "its logits are others while stages are captured",
    Late: "post_ffn_residual of layer 1 was changed after it was captured",
    Reused: "ffn_up of layer 0 was changed after it was captured",
    Twice: "final_norm was captured twice",
    Double: "ffn_silu of layer 0 is no float32 array in C order",
    OtherHead: "the stage lm_head is not the logits that it returns",
}


def test_an_honest_one_costs_two_passes_and_gives_what_it_computes(large):
    class Counting(Fake):
        passes = 0

        def forward(self, tokens, capture=None):
            self.passes += 1
            return super().forward(tokens, capture)

    oracle, found = Counting(large, "float32"), {}
    logits = watched.forward(oracle, TOKENS, lambda stage, layer, array: found.setdefault((stage, layer), array))
    assert oracle.passes == watched.FORWARDS == 2
    assert logits.tobytes() == found["lm_head", None].tobytes() == oracle.forward(TOKENS).tobytes()
    assert len(found) == 1 + 17 * 2 + 2


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_is_told(large, kind):
    with pytest.raises(UnfaithfulError) as caught:
        watched.forward(kind(large, "float32"), TOKENS, lambda *_: None)
    assert caught.value.reason == DEFECTS[kind]
    first = f"the oracle transformers (float32) is not believed on this model: {DEFECTS[kind]}"
    assert str(caught.value).splitlines() == [first, HINT]


@pytest.mark.parametrize(("side", "kind"), [("oracle", Touching), ("subject", Late)])
def test_apr_bisect_refuses_one_that_proved_itself_on_other_models(large, monkeypatch, capsys, kind, side):
    """What fails here is found by no proof on the known models."""
    sides = [f"{large}@fast", f"{large}@transformers"][:: 1 if side == "oracle" else -1]
    with installed(monkeypatch, kind):
        assert main(["bisect", *sides, "--prompt", "hello"]) == 2
        assert fake.OPEN == []
    out, err = capsys.readouterr()
    assert out == ""
    want = f"apr: the oracle transformers (float32) is not believed on this model: {DEFECTS[kind]}"
    assert err.splitlines()[-2:] == [want, HINT]


def test_apr_floor_refuses_it_too(large, monkeypatch, capsys, tmp_path):
    prompts = tmp_path / "prompts"
    prompts.write_text("hello\n")
    with installed(monkeypatch, Reused):
        assert main(["floor", str(large), "--oracle", "transformers", "--prompts", str(prompts)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", HINT)


def test_the_cost_of_an_oracle_counts_both_passes(large, monkeypatch, capsys):
    class Counting(Fake):
        passes = 0

        def forward(self, tokens, capture=None):
            Counting.passes += self.path == large
            return super().forward(tokens, capture)

    for sides, role in (
        ((f"{large}@fast", f"{large}@transformers"), "oracle"),
        ((f"{large}@transformers", f"{large}@fast"), "subject"),
    ):
        Counting.passes = 0
        with installed(monkeypatch, Counting):
            assert main(["bisect", *sides, "--prompt", "hello", "--json"]) == 0
        cost = json.loads(capsys.readouterr().out)["cost"]
        assert cost[role] == {"forwards": 2, "stage_evaluations": 0}
        assert Counting.passes == 2


def test_apr_oracle_on_a_real_model_takes_the_same_way(monkeypatch, capsys, tmp_path):
    class OnTiny(Touching):
        @property
        def large(self):
            return self.path == locate("tiny-qwen2")

    with installed(monkeypatch, OnTiny):
        assert main(["oracle", "transformers", "tiny-qwen2", "--output", str(tmp_path / "out")]) == 2
    assert "is not believed on this model: its logits" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
