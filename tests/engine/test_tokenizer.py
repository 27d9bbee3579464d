"""Tests of engine.tokenizer; the comparison with other implementations is in test_tokenizer_oracle."""

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from engine.errors import EngineError
from engine.tokenizer import BYTE_OF, SPLITTINGS, Tokenizer, splitter
from tests.engine.vocabularies import BOS, END, THINK, bytes_only, metadata, trained, varied_texts

SENTENCE = "I'm HE'LL 2024½  x =\n\n  y!!\r\n é中(ok)"
WORDS = {
    "gpt-2": "I|'m| HE|'|LL| 2024½| | x| =|\n\n | y|!!|\r\n| é中|(|ok|)",
    "smollm": "I|'m| HE|'|LL| |2|0|2|4|½| | x| =|\n\n | y|!!|\r\n| é中|(|ok|)",
    "qwen2": "I|'m| HE|'LL| |2|0|2|4|½| | x| =\n\n| | y|!!\r\n| é中|(ok|)",
    "llama-bpe": "I|'m| HE|'LL| |202|4½| | x| =\n\n| | y|!!\r\n| é中|(ok|)",
}
WORDS |= {"deepseek-r1-qwen": WORDS["qwen2"], "llama-v3": WORDS["llama-bpe"], "llama3": WORDS["llama-bpe"]}

tiny = Tokenizer.from_metadata(trained("qwen2"), "tiny.gguf")


def make(changes=None, *, without=(), base=None):
    keys = (bytes_only() if base is None else base) | (changes or {})
    return Tokenizer.from_metadata({key: value for key, value in keys.items() if key not in without}, "m.gguf")


@pytest.mark.parametrize("pre", SPLITTINGS)
def test_a_pre_tokenizer_cuts_the_sentence_into_the_words_written_down(pre):
    words = [
        bytes(BYTE_OF[character] for character in word).decode()
        for word, _ in splitter(SPLITTINGS[pre]).pre_tokenize_str(SENTENCE)
    ]
    assert "|".join(words) == WORDS[pre]


def test_the_byte_alphabet_is_that_of_the_tokenizers_library():
    assert sorted(BYTE_OF) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for character, byte in BYTE_OF.items():
        if byte < 0x80:
            [(word, _)] = splitter(SPLITTINGS["gpt-2"]).pre_tokenize_str(chr(byte))
            assert word == character


def test_merges_are_applied_in_the_order_of_the_file():
    tokens = ["a", "b", "c", "ab", "bc", "abc"]
    first_ab = make(base=metadata(tokens, ["a b", "b c", "ab c"]))
    first_bc = make(base=metadata(tokens, ["b c", "a b", "ab c"]))
    assert [first_ab.encode("abc"), first_bc.encode("abc")] == [[5], [0, 4]]


@pytest.mark.parametrize(("pre", "whole"), [("llama-bpe", True), ("llama3", True), ("qwen2", False), ("gpt-2", False)])
def test_only_llama_takes_a_word_that_is_a_token_whatever_the_merges_say(pre, whole):
    tokenizer = make(base=metadata(["a", "b", "ab", BOS], pre=pre, special={BOS: 3}))
    assert tokenizer.encode("ab")[-2:] == ([3, 2] if whole else [0, 1])


@pytest.mark.parametrize(("pre", "begins"), [("llama-bpe", True), ("llama-v3", True), ("qwen2", False)])
def test_a_begin_token_is_added_by_default_for_llama_only(pre, begins):
    base = metadata(["a", BOS], pre=pre, special={BOS: 3})
    assert make(base=base).encode("a") == ([1, 0] if begins else [0])
    assert make({"tokenizer.ggml.add_bos_token": True}, base=base).encode("a") == [1, 0]
    assert make({"tokenizer.ggml.add_bos_token": False}, base=base).encode("a") == [0]


def test_an_end_token_is_added_where_the_file_says_so():
    base = metadata(["a", END], special={END: 3})
    assert make(base=base).encode("a") == [0]
    assert make({"tokenizer.ggml.add_eos_token": True}, base=base).encode("a") == [0, 1]


@pytest.mark.parametrize("name", ["bos", "eos"])
def test_a_token_that_must_be_added_but_has_no_id_is_refused(name):
    message = rf"a {name} token is to be added to every prompt, but tokenizer\.ggml\.{name}_token_id is missing"
    with pytest.raises(EngineError, match=message):
        make({f"tokenizer.ggml.add_{name}_token": True})


def test_special_tokens_in_the_text_are_tokens_unless_told_otherwise():
    end, think = tiny.vocabulary.ids[END], tiny.vocabulary.ids[THINK]
    assert tiny.encode(f"a{END}{THINK}b")[1:3] == [end, think]
    plain = tiny.encode(f"a{END}{THINK}b", special=False)
    assert end not in plain, "a control token in plain text would let the text end the turn"
    assert think in plain, "user-defined tokens are text that has a token of its own"
    assert tiny.decode(plain) == f"a{END}{THINK}b"


def test_of_two_special_tokens_that_begin_alike_the_longer_is_taken():
    tokenizer = make(base=bytes_only("<|a", "<|a|>"))
    assert tokenizer.encode("<|a|><|ab") == [257, 256, ord("b")]


def test_control_tokens_are_left_out_of_the_text_unless_kept():
    ids = tiny.encode(f"a{END}{THINK}b")
    assert tiny.decode(ids) == f"a{THINK}b"
    assert tiny.decode(ids, keep_special=True) == f"a{END}{THINK}b"


@pytest.mark.parametrize("id_", [-1, 256])
def test_an_id_out_of_range_is_refused_with_the_range(id_):
    tokenizer = make()
    message = rf"^m\.gguf: token id {id_} is not in the vocabulary\n  hint: ids go from 0 to 255$"
    with pytest.raises(EngineError) as caught:
        tokenizer.decode([65, id_])
    assert caught.match(message)
    with pytest.raises(EngineError, match=f"token id {id_} is not in the vocabulary"):
        tokenizer.stream().feed(id_)


def test_a_byte_without_a_token_is_refused_and_not_dropped():
    tokenizer = make(base=metadata(["a", "Ã"]))  # Ã stands for the byte C3, the first of é
    with pytest.raises(EngineError, match=r"^prompt: the vocabulary has no token for the byte 0xA9 of 'é'\n"):
        tokenizer.encode("aé")


def test_text_that_is_not_unicode_is_refused():
    with pytest.raises(EngineError, match=r"^prompt: the text is not valid Unicode at character 1 \('\\udcff'\)\n"):
        make().encode("a\udcff")


def test_a_token_of_plain_text_outside_the_byte_alphabet_is_its_text():
    tokenizer = make(base=metadata(["a", "▁中 "]))
    assert tokenizer.decode([1, 0]) == "▁中 a"


@given(st.text())
def test_decoding_gives_back_any_text(text):
    assert tiny.decode(tiny.encode(text), keep_special=True) == text
    assert tiny.decode(tiny.encode(text, special=False)) == text


@pytest.mark.parametrize("pre", SPLITTINGS)
def test_decoding_gives_back_varied_texts_under_every_pre_tokenizer(pre):
    tokenizer = Tokenizer.from_metadata(trained(pre), "tiny.gguf")
    for text in varied_texts(300):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids[tokenizer.add_bos :], keep_special=True) == text


@given(st.lists(st.integers(0, tiny.vocab_size - 1)), st.booleans())
def test_a_stream_gives_the_text_of_the_whole(ids, keep_special):
    stream = tiny.stream(keep_special=keep_special)
    text = "".join([*(stream.feed(id_) for id_ in ids), stream.finish()])
    assert text == tiny.decode(ids, keep_special=keep_special)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), min_size=1))
def test_a_stream_never_shows_a_part_of_a_character(text):
    tokenizer = make()  # every byte is a token: the hardest case
    stream = tokenizer.stream()
    shown = [""]
    for id_ in tokenizer.encode(text):
        shown.append(shown[-1] + stream.feed(id_))
    assert all(text.startswith(later) and later.startswith(earlier) for earlier, later in pairwise(shown))
    assert shown[-1] == text
    assert stream.finish() == ""


def test_a_stream_ends_with_a_replacement_for_half_a_character():
    stream = make().stream()
    assert [stream.feed(byte) for byte in b"a\xe4\xb8"] == ["a", "", ""]
    assert stream.finish() == "\ufffd"


@pytest.mark.parametrize("said", [None, "default", "llama", "SMOLLM", "gpt-4o"])
def test_an_unknown_or_missing_pre_tokenizer_is_refused_with_the_list(said):
    what = "is missing" if said is None else f"is '{said}', which is not supported"
    with pytest.raises(EngineError) as caught:
        make({"tokenizer.ggml.pre": said} if said else None, without=() if said else ("tokenizer.ggml.pre",))
    assert str(caught.value) == (
        f"m.gguf: tokenizer.ggml.pre {what}\n  hint: supported: gpt-2, smollm, qwen2, deepseek-r1-qwen, llama-bpe, "
        "llama-v3, llama3; with any other splitting the token ids would be a guess"
    )


@pytest.mark.parametrize("said", [None, "llama", "bert", "t5"])
def test_another_kind_of_tokenizer_is_refused(said):
    what = "is missing" if said is None else f"is '{said}', which is not supported"
    with pytest.raises(EngineError, match=rf"^m\.gguf: tokenizer\.ggml\.model {what}\n  hint: supported: gpt2 "):
        make({"tokenizer.ggml.model": said} if said else None, without=() if said else ("tokenizer.ggml.model",))


def test_a_chat_is_rendered_with_the_files_template_and_tokens():
    keys = trained("qwen2") | {
        "tokenizer.chat_template": "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    }
    tokenizer = make(base=keys)
    chat = [{"role": "user", "content": "hello"}]
    assert tokenizer.render_chat(chat) == f"{BOS}user:hello{END}assistant:"
    assert tokenizer.encode_chat(chat) == tokenizer.encode(tokenizer.render_chat(chat))


@pytest.mark.parametrize("template", ["{{ bos_token }}hello", "hello"])
def test_a_chat_has_one_begin_token_whether_or_not_its_template_writes_it(template):
    base = trained("llama-bpe") | {"tokenizer.chat_template": template}
    ids = make(base=base).encode_chat([{"role": "user", "content": "a"}])
    bos = base["tokenizer.ggml.bos_token_id"]
    assert ids[0] == bos
    assert ids.count(bos) == 1


def test_a_model_without_a_template_is_refused_for_chat():
    with pytest.raises(EngineError, match=r"^m\.gguf: the model has no chat template \(tokenizer\.chat_template\)\n"):
        make().render_chat([{"role": "user", "content": "a"}])


def test_importing_the_tokenizer_does_not_import_numba_jinja2_or_numpy():
    heavy = "{'numba', 'numpy', 'jinja2'}"
    code = f"import sys, engine.tokenizer, engine.registry; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
