"""Tests of engine.bisection.naming: what a user may call a side, and what is said of everything else."""

import json

import pytest

from engine.bisection.naming import Spec, parse
from engine.errors import EngineError

MANIFEST = json.dumps({"format": "aprt-trace/1"})
TENSOR = b"APRT" + bytes(8)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lay(here, **files):
    """Files of a folder "t", by name: __ stands for a folder's slash, _ for a dot."""
    for name, content in files.items():
        path = here / "t" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("text", "model", "engine", "dtype", "name"),
    [
        ("smollm2", "smollm2", "fast", None, "smollm2@fast"),
        ("smollm2@fast", "smollm2", "fast", None, "smollm2@fast"),
        ("a/b.gguf@reference", "a/b.gguf", "reference", None, "a/b.gguf@reference"),
        ("smollm2@transformers", "smollm2", "transformers", None, "smollm2@transformers"),
        ("smollm2@transformers:bfloat16", "smollm2", "transformers", "bfloat16", "smollm2@transformers:bfloat16"),
        ("OWNER/NAME@v1", "OWNER/NAME@v1", "fast", None, "OWNER/NAME@v1@fast"),
        ("OWNER/NAME@v1@reference", "OWNER/NAME@v1", "reference", None, "OWNER/NAME@v1@reference"),
        ("OWNER/NAME@fast@reference", "OWNER/NAME@fast", "reference", None, "OWNER/NAME@fast@reference"),
    ],
)
def test_a_side_is_a_model_and_what_runs_it(text, model, engine, dtype, name):
    spec = parse(text, "fast")
    assert spec == Spec(text, model, engine, dtype)
    assert spec.name == name


def test_what_a_model_alone_means_is_for_the_caller():
    assert parse("smollm2", "reference").engine == "reference"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the name of a side is empty\n  hint: a side is MODEL, MODEL@fast, "),
        ("smollm2@fats", "smollm2@fats: unknown engine 'fats'\n  hint: did you mean fast? known: fast, reference, tr"),
        ("smollm2@", "smollm2@: unknown engine ''\n  hint: known: fast, "),
        ("here/m.gguf@fats", "here/m.gguf@fats: unknown engine 'fats'\n"),
        ("@fast", "no model before the @ in '@fast'\n"),
        ("smollm2@fast@reference", "smollm2@fast@reference: names two engines\n  hint: a side is MODEL, "),
        ("smollm2@fast:float16", "smollm2@fast:float16: fast has no choice of a dtype\n"),
        ("m@transformers:int8", "m@transformers:int8: unknown dtype 'int8'\n  hint: known: float32, float16, bfloat16"),
        ("m@transformers:", "m@transformers:: unknown dtype ''\n"),
    ],
)
def test_a_side_that_there_is_not_is_refused(here, text, message):
    (here / "here").mkdir()
    (here / "here" / "m.gguf").touch()
    with pytest.raises(EngineError) as caught:
        parse(text, "fast")
    assert str(caught.value).startswith(message)


def test_what_exists_is_that_path_whatever_its_name(here):
    (here / "m@fast").touch()
    (here / "m@v2.gguf").touch()
    assert parse("m@fast", "reference") == Spec("m@fast", "m@fast", "reference")
    assert parse("m@v2.gguf", "fast") == Spec("m@v2.gguf", "m@v2.gguf", "fast")


def test_a_folder_with_a_manifest_is_one_of_stages_and_with_a_configuration_a_model(here):
    lay(here, manifest_json=MANIFEST)
    assert parse("t", "fast") == Spec("t", "t", "folder")
    assert parse("t", "fast").name == "t"
    lay(here, config_json="{}", manifest_json="{}")
    assert parse("t", "fast").engine == "fast"
    lay(here, manifest_json=MANIFEST)
    assert parse("t", "fast").engine == "folder"


@pytest.mark.parametrize("content", ["", "{", '{"format": "aprt-trace/2"}'])
def test_a_manifest_that_is_broken_is_a_manifest(here, content):
    """Whoever reads it says what is wrong with it."""
    lay(here, manifest_json=content)
    assert parse("t", "fast").engine == "folder"


@pytest.mark.parametrize("place", ["lm_head.bin", "layer-3/ffn_up.bin"])
def test_stages_without_a_manifest_are_an_interrupted_trace(here, place):
    path = here / "t" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(TENSOR)
    with pytest.raises(EngineError, match=r"^t: is a folder of stages without manifest.json: what wrote it"):
        parse("t", "fast")


def test_a_folder_of_nothing_is_neither(here):
    lay(here, notes_bin=b"text")
    with pytest.raises(EngineError) as caught:
        parse("t", "fast")
    assert str(caught.value).startswith(
        "t: is a folder without manifest.json (of stages) and config.json (of a model)\n"
    )


def test_a_model_without_its_configuration_is_for_the_reader_of_models(here):
    lay(here, model_safetensors=b"")
    assert parse("t", "fast").engine == "fast"


def test_a_part_of_a_folder_is_refused_with_what_to_name(here):
    lay(here, manifest_json=MANIFEST, x_bin=TENSOR, other_bin=b"GGUF")
    for part in ("t/manifest.json", "t/x.bin"):
        with pytest.raises(EngineError, match=rf"^{part}: is one file of a folder of stages\n  hint: name the folder"):
            parse(part, "fast")
    assert parse("t/other.bin", "fast").engine == "fast"


def test_nothing_runs_a_folder_of_stages(here):
    lay(here, manifest_json=MANIFEST)
    with pytest.raises(EngineError, match=r"^t@fast: t is a folder of stages, which nothing runs again\n"):
        parse("t@fast", "fast")
