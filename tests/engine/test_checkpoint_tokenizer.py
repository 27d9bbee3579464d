"""Tests of engine.checkpoint_tokenizer; the comparison with transformers is in test_checkpoint_oracle."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, normalizers, processors
from tokenizers import Tokenizer as Pipeline
from tokenizers.models import BPE

from engine import checkpoint_tokenizer
from engine.checkpoint import read_checkpoint
from engine.checkpoint_tokenizer import CheckpointTokenizer
from engine.errors import EngineError
from engine.tokenizer import Tokenizer
from tests.engine.checkpoints import config, put, small_checkpoint, tokenizer
from tests.engine.model_files import END, TOKENS, VOCAB
from tests.engine.vocabularies import metadata

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}{{ bos_token }}"


@pytest.fixture
def folder(tmp_path):
    return small_checkpoint(tmp_path, "qwen2")


def opened(folder):
    return CheckpointTokenizer.from_checkpoint(read_checkpoint(folder))


def refused(folder, name, message):
    with pytest.raises(EngineError) as caught:
        opened(folder)
    assert caught.value.args[0].startswith(message)
    assert caught.value.where == str(folder / name)
    assert caught.value.hint
    return caught.value


def configured(folder, **changes):
    stated = json.loads((folder / "tokenizer_config.json").read_text()) | changes
    put(folder, "tokenizer_config.json", stated)


def piped(folder, pipeline):
    (folder / "tokenizer.json").write_text(pipeline.to_str(), encoding="utf-8")


# ---------------------------------------------------------------- encoding


@settings(max_examples=200, deadline=None)
@given(st.text() | st.lists(st.sampled_from(["hi", " ", END, "é", "<|im_", "\n"])).map("".join))
def test_the_ids_are_those_of_the_library_and_of_the_same_vocabulary_in_a_gguf_file(kinds, text):
    ids = kinds[0].encode(text)
    assert ids == tokenizer().encode(text).ids
    assert ids == Tokenizer.from_metadata(metadata(TOKENS, ["h i"], special={END: 3}), "m.gguf").encode(text)


def test_what_tokenizer_json_adds_around_a_text_is_added_to_prompts_and_not_to_chats(folder):
    pipeline = tokenizer()
    template = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 257)])
    pipeline.post_processor = template
    piped(folder, pipeline)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    found = opened(folder)
    assert found.encode("hi") == [257, 256]
    assert found.encode_chat([{"role": "user", "content": "hi"}]) == [256]


def test_the_file_of_the_pipeline_decides_about_begin_tokens_and_not_a_flag_beside_it(folder):
    configured(folder, add_bos_token=True, add_eos_token=True, bos_token=END)
    assert opened(folder).encode("hi") == [256]


def test_a_length_at_which_the_pipeline_cuts_or_pads_is_not_ours(folder):
    pipeline = tokenizer()
    pipeline.enable_truncation(2)
    pipeline.enable_padding(length=9)
    piped(folder, pipeline)
    assert opened(folder).encode("abc") == [97, 98, 99]


def test_a_normaliser_of_the_file_is_applied(folder):
    pipeline = tokenizer()
    pipeline.normalizer = normalizers.NFC()
    piped(folder, pipeline)
    assert opened(folder).encode("e\u0301") == list("é".encode())


def test_tokens_that_only_the_settings_call_special_are_found_in_a_text(folder):
    plain = tokenizer((*TOKENS[:-1], "<u>", "<v>"), special=())
    piped(folder, plain)
    put(folder, "config.json", config("qwen2", vocab_size=259))
    put(folder, "tokenizer_config.json", {})
    assert opened(folder).encode("<u>") == [60, 117, 62]
    for changes in (
        {"pad_token": "<u>"},
        {"eos_token": {"__type": "AddedToken", "content": "<u>", "special": True}},
        {"additional_special_tokens": ["<u>"]},
        {"extra_special_tokens": {"image_token": "<u>"}},
        {"image_token": "<u>"},
        {"added_tokens_decoder": {"257": {"content": "<u>", "special": False, "normalized": False}}},
    ):
        put(folder, "tokenizer_config.json", changes)
        assert opened(folder).encode("a<u>b<v>") == [97, 257, 98, 60, 118, 62], changes
    put(folder, "tokenizer_config.json", {"add_bos_token": True, "pad_token": None})
    assert opened(folder).encode("<u>") == [60, 117, 62]


def test_a_token_with_a_role_is_left_out_of_a_text_whatever_the_pipeline_says(folder):
    stated = json.loads((folder / "tokenizer.json").read_text())
    stated["added_tokens"][0] |= {"special": False, "lstrip": True}
    put(folder, "tokenizer.json", stated)
    put(folder, "tokenizer_config.json", {})
    assert opened(folder).decode([104, 257]) == f"h{END}"
    put(folder, "tokenizer_config.json", {"pad_token": {"content": END, "lstrip": False}})
    assert opened(folder).decode([104, 257]) == "h"
    assert opened(folder).encode(f"h {END}") == [104, 257]  # the space is the token's, as it was added


@pytest.mark.parametrize(("first", "last"), [(False, False), (False, True), (True, False)])
def test_how_an_added_token_is_found_is_said_last_by_the_settings_and_either_makes_it_special(folder, first, last):
    stated = json.loads((folder / "tokenizer.json").read_text())
    stated["added_tokens"][0] |= {"special": first, "lstrip": False}
    put(folder, "tokenizer.json", stated)
    token = {"content": END, "special": last, "lstrip": True, "normalized": False}
    put(folder, "tokenizer_config.json", {"added_tokens_decoder": {"257": token}, "eos_token": END})
    assert opened(folder).encode(f"h {END}") == [104, 257]
    put(folder, "tokenizer_config.json", {"added_tokens_decoder": {"257": token}})
    assert opened(folder).encode(f"h {END}") == [104, 257]
    assert opened(folder).decode([104, 257]) == ("h" if first or last else f"h{END}")


def test_a_token_that_the_vocabulary_lacks_stays_text(folder):
    configured(folder, pad_token="[PAD]")
    assert opened(folder).encode("[PAD]") == list(b"[PAD]")
    assert opened(folder).vocab_size == VOCAB


def test_a_map_of_special_tokens_counts_where_the_settings_do_not_describe_their_tokens(folder):
    put(folder, "special_tokens_map.json", {"bos_token": {"content": END}, "eos_token": None})
    assert (opened(folder).bos_token, opened(folder).eos_token) == (END, "")
    configured(folder, added_tokens_decoder={"257": {"content": END}})
    assert (opened(folder).bos_token, opened(folder).eos_token) == ("", END)


def test_text_that_is_no_unicode_is_an_error(folder):
    with pytest.raises(EngineError, match=r"^prompt: the text is not valid Unicode at character 1 "):
        opened(folder).encode("a\udcff")


# ---------------------------------------------------------------- decoding


def metaspace():
    """As Llama 2: a space in front, unknown characters as bytes."""
    vocabulary = {"<unk>": 0, "</s>": 1} | {f"<0x{byte:02X}>": byte + 2 for byte in range(256)}
    vocabulary |= {token: 258 + n for n, token in enumerate(("▁", "a", "b", "▁a", "▁▁", "ab", "▁ab"))}
    pipeline = Pipeline(
        BPE(vocabulary, [("▁", "a"), ("▁", "▁"), ("a", "b"), ("▁a", "b")], unk_token="<unk>", byte_fallback=True)
    )
    pipeline.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    pipeline.decoder = decoders.Sequence(steps)
    pipeline.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    return pipeline


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """A tokenizer with bytes as characters, and one with spaces as a character and bytes as tokens."""
    base = tmp_path_factory.mktemp("kinds")
    folders = [small_checkpoint(base / str(n), "qwen2") for n in range(2)]
    piped(folders[1], metaspace())
    put(folders[1], "config.json", config("qwen2", vocab_size=265))
    put(folders[1], "tokenizer_config.json", {"eos_token": "</s>"})
    return [opened(folder) for folder in folders]


@settings(max_examples=200, deadline=None)
@given(
    ids=st.lists(st.integers(0, 264) | st.sampled_from([258, 262, 257, 1, 0xE4 + 2, 0xB8 + 2, 0xAD + 2])),
    kind=st.booleans(),
)
def test_what_is_streamed_is_what_is_decoded_at_once(kinds, ids, kind):
    found = kinds[kind]
    stream = found.stream()
    pieces = [stream.feed(id_) for id_ in ids]
    told, at_once = "".join(pieces) + stream.finish(), found.decode(ids)
    if kind and "\ufffd" in at_once:  # then that decoder takes back good bytes beside a bad one
        assert "\ufffd" in told
    else:
        assert told == at_once


def test_no_piece_ends_within_a_character(kinds):
    for found, ids in zip(kinds, ([*"a中b".encode()], [259, *(byte + 2 for byte in "中".encode()), 260]), strict=True):
        stream = found.stream()
        assert [stream.feed(id_) for id_ in ids] == ["a", "", "", "中", "b"]
        assert stream.finish() == ""


def test_what_was_never_completed_comes_last(kinds):
    stream = kinds[0].stream()
    assert [stream.feed(id_) for id_ in (97, 0xE4)] == ["a", ""]
    assert stream.finish() == "\ufffd"


def test_special_tokens_are_left_out_unless_kept_and_ids_without_token_always(kinds):
    assert kinds[0].decode([104, 257, 105, 300]) == "hi"
    assert kinds[0].decode([104, 257, 105, 300], keep_special=True) == f"h{END}i"


# ---------------------------------------------------------------- end of an answer


@pytest.mark.parametrize(
    ("generation", "configuration", "want"),
    [
        ({"eos_token_id": 7}, {"eos_token_id": 9}, {7}),
        ({"eos_token_id": [7, 8]}, {}, {7, 8}),
        ({"eos_token_id": None}, {"eos_token_id": [9]}, {9}),
        ({}, {"eos_token_id": 9}, {9}),
        (None, {"eos_token_id": 9}, {9}),
        (None, {}, {257}),
        ({"eos_token_id": []}, {"eos_token_id": 9}, set()),
    ],
)
def test_an_answer_ends_where_the_first_file_says_so(folder, generation, configuration, want):
    put(folder, "config.json", config("qwen2", **configuration))
    if generation is None:
        (folder / "generation_config.json").unlink()
    else:
        put(folder, "generation_config.json", generation)
    assert opened(folder).eos_ids == want


def test_without_any_end_token_an_answer_has_none(folder):
    (folder / "generation_config.json").unlink()
    put(folder, "tokenizer_config.json", {})
    assert opened(folder).eos_ids == frozenset()


@pytest.mark.parametrize("bad", [VOCAB, -1, [3, VOCAB], [True], ["</s>"]])
def test_an_end_token_that_is_none_is_refused(folder, bad):
    put(folder, "generation_config.json", {"eos_token_id": bad})
    refused(folder, "generation_config.json", "eos_token_id ")
    (folder / "generation_config.json").unlink()
    put(folder, "config.json", config("qwen2", eos_token_id=bad))
    refused(folder, "config.json", "eos_token_id ")


# ---------------------------------------------------------------- chat


def test_the_template_of_the_settings_is_rendered_with_its_tokens(folder):
    configured(folder, chat_template=TEMPLATE)
    text = opened(folder).render_chat([{"role": "user", "content": "hi"}])
    assert text == f"<user>hi{END}"
    assert opened(folder).encode_chat([{"role": "user", "content": "hi"}]) == [*b"<user>", 256, 257]


def test_a_template_in_a_file_of_its_own_comes_first(folder):
    configured(folder, chat_template=TEMPLATE)
    (folder / "chat_template.jinja").write_text("ä{{ messages|length }}", encoding="utf-8")
    assert opened(folder).render_chat([]) == "ä0"


def test_of_several_templates_the_default_is_taken(folder):
    several = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    configured(folder, chat_template=several)
    assert opened(folder).render_chat([]) == "d"
    configured(folder, chat_template=several[:1])
    with pytest.raises(
        EngineError, match=r"the model has no chat template \(chat_template.jinja, or in tokenizer_conf"
    ):
        opened(folder).render_chat([])


def test_a_model_without_a_template_says_so(folder):
    with pytest.raises(EngineError, match=r"qwen2: the model has no chat template .*\n  hint: leave --chat out"):
        opened(folder).encode_chat([])


# ---------------------------------------------------------------- what is refused


def test_a_tokenizer_that_is_missing_is_named(folder):
    (folder / "tokenizer.json").unlink()
    assert "AutoTokenizer.from_pretrained(FOLDER)" in refused(folder, "tokenizer.json", "no such file").hint


def test_without_settings_the_map_of_special_tokens_names_them_or_nothing_does(folder):
    (folder / "tokenizer_config.json").unlink()
    assert (opened(folder).eos_token, opened(folder).chat_template) == ("", None)
    assert opened(folder).encode(f"hi{END}") == [256, 257]
    put(folder, "special_tokens_map.json", {"eos_token": END})
    assert opened(folder).eos_token == END


@pytest.mark.parametrize(
    "text",
    [
        '{"model": {}}',
        '{"model": []}',
        "{}",
        '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
        '{"version": "9.0"}',
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(folder, text):
    (folder / "tokenizer.json").write_text(text)
    refused(folder, "tokenizer.json", "is not a tokenizer that can run: ")


def test_a_prefix_within_words_is_refused_before_the_library_ends_the_process(folder):
    stated = json.loads((folder / "tokenizer.json").read_text())
    stated["model"]["continuing_subword_prefix"] = "##"
    put(folder, "tokenizer.json", stated)
    refused(folder, "tokenizer.json", "continuing_subword_prefix is not supported")
    stated["model"]["continuing_subword_prefix"] = ""  # as Qwen2's own files have it
    put(folder, "tokenizer.json", stated)
    assert opened(folder).encode("hi") == [256]


def test_a_file_that_is_no_json_is_refused_by_its_line(folder):
    (folder / "tokenizer.json").write_text('{\n"model": ]')
    refused(folder, "tokenizer.json:2", "is not JSON: ")


def test_a_vocabulary_larger_than_the_embedding_is_refused(folder):
    put(folder, "config.json", config("qwen2", vocab_size=257))
    refused(folder, "tokenizer.json", "has the token id 257, yet the embedding has 257 rows (vocab_size)")
    put(folder, "config.json", config("qwen2", vocab_size=2000))
    assert opened(folder).vocab_size == VOCAB


def test_a_token_that_is_put_around_a_text_and_has_no_row_is_refused(folder):
    stated = json.loads((folder / "tokenizer.json").read_text())
    for id_, message in ((VOCAB - 1, ""), (VOCAB, f"has the token id {VOCAB}, yet the embedding has {VOCAB} rows")):
        stated["post_processor"] = {"type": "BertProcessing", "sep": [END, 3], "cls": [END, id_]}
        put(folder, "tokenizer.json", stated)
        if message:
            refused(folder, "tokenizer.json", message)
        else:
            assert opened(folder).encode("hi") == [id_, 256, 3]


@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
    ],
    ids=["when it is read", "when it runs"],
)
def test_a_panic_of_the_library_is_one_error(folder, part):
    put(folder, "tokenizer.json", json.loads((folder / "tokenizer.json").read_text()) | part)
    refused(folder, "tokenizer.json", "is not a tokenizer that can run: ")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_who_stops_the_process_is_not_taken_for_the_library(folder, monkeypatch, stop):
    class Stopped:
        @staticmethod
        def from_str(text):
            raise stop

    monkeypatch.setattr(checkpoint_tokenizer, "Pipeline", Stopped)
    with pytest.raises(stop):
        opened(folder)


def test_a_text_that_the_library_cannot_encode_is_one_error(folder):
    model = {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]]}
    stated = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None}
    put(folder, "tokenizer.json", stated | {"post_processor": None, "decoder": None, "model": model})
    put(folder, "tokenizer_config.json", {})
    found = opened(folder)
    assert found.encode("aa") == [0, 0]
    with pytest.raises(EngineError, match=r"qwen2: is not a tokenizer that can run: .*unk_id"):
        found.encode("ab")


def test_a_tokenizer_that_leaves_merges_out_at_random_is_refused(folder):
    stated = json.loads((folder / "tokenizer.json").read_text())
    stated["model"]["dropout"] = 0.5
    put(folder, "tokenizer.json", stated)
    refused(folder, "tokenizer.json", "dropout is not supported")


def test_an_added_token_that_leaves_a_hole_is_refused(folder):
    stated = json.loads((folder / "tokenizer.json").read_text())
    stated["added_tokens"][0]["id"] = 300
    put(folder, "tokenizer.json", stated)
    refused(folder, "tokenizer.json", "added token '<|im_end|>' is stated with the id 300, but is 257")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eos_token": "</s>"}, "eos_token is '</s>', which tokenizer.json does not have"),
        ({"bos_token": "<s>"}, "bos_token is '<s>', which tokenizer.json does not have"),
        ({"eos_token": 7}, "eos_token is 7, not a token"),
        ({"eos_token": "\ud800"}, "eos_token is '\\ud800', not a token"),
        ({"pad_token": {"text": "a"}}, "pad_token is {'text': 'a'}, not a token"),
        (
            {"eos_token": {"content": END, "lstrip": "yes"}},
            "eos_token is {'content': '<|im_end|>', 'lstrip': 'yes'}, not",
        ),
        ({"additional_special_tokens": "x"}, "additional_special_tokens is 'x', not a list"),
        ({"additional_special_tokens": [3]}, "additional_special_tokens is 3, not a token"),
        ({"added_tokens_decoder": []}, "added_tokens_decoder is [], not an object"),
        ({"added_tokens_decoder": {"5": {"content": END}}}, "added_tokens_decoder has '<|im_end|>' as 5, but for tok"),
        (
            {"added_tokens_decoder": {"258": {"content": "new"}}},
            "added_tokens_decoder has 'new' as 258, but for tokenizer",
        ),
        (
            {"added_tokens_decoder": {"x": "new"}},
            "added_tokens_decoder has 'new' as x, but for tokenizer.json it is None",
        ),
        ({"added_tokens_decoder": {"5": 5}}, "added_tokens_decoder '5' is 5, not a token"),
        ({"chat_template": 3}, "chat_template is 3, not a text or a list"),
        ({"chat_template": [{"name": "default"}]}, "chat_template holds {'name': 'default'}, not {name, template}"),
        ({"chat_template": ["x"]}, "chat_template holds 'x', not {name, template}"),
    ],
    ids=str,
)
def test_settings_that_contradict_the_tokenizer_are_refused(folder, changes, message):
    configured(folder, **changes)
    refused(folder, "tokenizer_config.json", message)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_tokenizer_with_a_changed_value_is_refused_or_encodes(kinds, tmp_path_factory, data):
    """No traceback, whatever the library makes of it: errors of Rust are no Exceptions."""
    folder = small_checkpoint(tmp_path_factory.mktemp("t"), "qwen2")
    stated = json.loads(data.draw(st.sampled_from([tokenizer, metaspace]))().to_str())
    put(folder, "config.json", config("qwen2", vocab_size=400))
    places = [(stated, key) for key in stated] + [(stated["model"], key) for key in stated["model"]]
    for part in ("pre_tokenizer", "normalizer", "decoder"):
        if stated[part]:
            places += [(stated[part], key) for key in stated[part]]
    place, key = data.draw(st.sampled_from([place for place in places if place[1] != "vocab"]))
    place[key] = data.draw(st.sampled_from([None, 0, -1, "x", [], {}, True, [["a", "b"]], {"type": "NFC"}]))
    put(folder, "tokenizer.json", stated)
    try:
        found = opened(folder)
    except EngineError:
        return
    assert isinstance(found.encode("hi"), list)
