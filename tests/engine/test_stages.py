"""Selecting stages and layers: what is accepted, and what every refusal says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import stages
from engine.errors import EngineError


def test_there_are_twenty_stages_of_which_two_belong_to_the_whole_model():
    assert len(stages.STAGES) == len(set(stages.NAMES)) == 20
    assert {"final_norm", "lm_head"} == stages.WHOLE
    assert stages.NAMES[-2:] == ("final_norm", "lm_head")
    assert [stages.ORDER[name] for name in stages.NAMES] == list(range(20))


def test_all_names_every_stage_in_the_order_of_execution():
    assert stages.parse_stages("all") == stages.NAMES
    assert stages.parse_stages("lm_head,ALL") == stages.NAMES


def test_case_blanks_repetition_and_order_do_not_matter():
    assert stages.parse_stages(" LM_Head,embedding ,lm_head,QKV_MATMUL") == ("embedding", "qkv_matmul", "lm_head")


def test_layer_output_is_the_residual_after_the_feed_forward_block():
    assert stages.parse_stages("Layer_Output") == ("post_ffn_residual",)
    assert stages.parse_stages("layer_output,post_ffn_residual") == ("post_ffn_residual",)


@given(st.lists(st.sampled_from(stages.NAMES), min_size=1))
@settings(deadline=None)
def test_any_selection_comes_back_in_the_order_of_execution(names):
    assert stages.parse_stages(",".join(names)) == tuple(name for name in stages.NAMES if name in names)


@pytest.mark.parametrize("text", ["", " ", ",", "embedding,", ",embedding", "embedding,,lm_head"])
def test_an_empty_stage_name_is_refused(text):
    with pytest.raises(EngineError) as caught:
        stages.parse_stages(text)
    assert str(caught.value).startswith(
        f"--save-tensor: empty stage name in {text!r}\n  hint: valid stages: all, embed"
    )


@pytest.mark.parametrize("text", ["attn", "embedding lm_head", "embedding;lm_head", "alle", "embedding\n.bin", "../x"])
def test_an_unknown_stage_is_refused_with_the_list_of_valid_ones(text):
    with pytest.raises(EngineError) as caught:
        stages.parse_stages(f"lm_head,{text}")
    message = str(caught.value)
    assert message.startswith(f"--save-tensor: unknown stage {text!r}\n  hint: valid stages: all, ")
    assert all(name in message for name in (*stages.NAMES, "layer_output"))


@pytest.mark.parametrize(
    ("text", "want"), [("0..4", range(4)), ("3..4", range(3, 4)), (" 1 .. 12 ", range(1, 12)), ("00..01", range(1))]
)
def test_a_range_ends_before_its_end(text, want):
    assert stages.parse_layers(text) == want


@pytest.mark.parametrize(
    "text", ["", "3", "..", "1..", "..3", "-1..2", "1...3", "1-3", "a..b", "1..2..3", "0..9999999999"]
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(EngineError) as caught:
        stages.parse_layers(text)
    assert str(caught.value).startswith(
        f"--layer: {text!r} is not a range of layers\n  hint: write START..END with END"
    )


@pytest.mark.parametrize("text", ["0..0", "4..4", "4..3"])
def test_a_range_whose_end_is_not_past_its_start_is_refused(text):
    with pytest.raises(EngineError) as caught:
        stages.parse_layers(text)
    assert str(caught.value).startswith(
        f"--layer: the range {text!r} is empty: its end is not past its start\n  hint: "
    )
