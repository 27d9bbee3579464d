"""The registry of models has two readers, neither of which may import the other: they must read one page alike."""

from pathlib import Path

import pytest

from engine import registry
from engine.errors import EngineError
from pv import config
from pv.errors import PvError

DIGITS = "0123456789" * 6 + "0123"
PYPI = "pypi: {requirement: tiny-model==1.0, member: tiny_model/data/tiny-Q4.gguf}"


def entry(*, name="tiny", about="about: a test", sha256="ab" * 32, size="7", source="file: tiny.gguf", more=""):
    return f"{name}: {{{about}, licence: CC0-1.0, sha256: {sha256}, size: {size}, {source}{more}}}\n"


def by_engine(page):
    return {name: (found.sha256, found.size, found.path) for name, found in registry.entries(page).items()}


def by_pv(page):
    project = config.Config(root=page.parent, contracts=page.parent, evidence=page.parent, models=page)
    return {name: (found.sha256, found.size, found.path) for name, found in config.registry(project).items()}


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setenv("PV_MODELS", str(tmp_path / "cache"))
    return tmp_path / "registry.yaml"


def test_the_readers_agree_about_the_registry_of_this_repository(page):
    assert by_pv(registry.REGISTRY) == by_engine(registry.REGISTRY) != {}
    assert config.find(Path(__file__)).models == registry.REGISTRY


def test_the_readers_agree_about_the_folder_of_pulled_models(monkeypatch):
    for chosen in (None, "~/models", "relative"):
        if chosen is None:
            monkeypatch.delenv("PV_MODELS", raising=False)
        else:
            monkeypatch.setenv("PV_MODELS", chosen)
        assert config.cache_folder() == registry.cache_folder()


@pytest.mark.parametrize(
    "text",
    [
        entry(),
        entry(source=PYPI),
        entry() + entry(name="far", source=PYPI),
        entry(sha256=DIGITS),
        entry(sha256=f"'{DIGITS}'"),
        entry(sha256=f'"{DIGITS}"'),
        entry(sha256="0" * 64),
        entry(sha256="1" + "e" * 2 + "0" * 61),
        entry(size="'7'"),
        entry(about="about: 12"),
        entry(about="about: yes"),
        entry(about="about: ~"),
        entry(name="0"),
        entry(source="file: 'tiny.gguf'"),
        entry(source="file: 007.gguf"),
        entry(source="pypi: {requirement: tiny-model==1.0, member: ../../etc/tiny.gguf}"),
        "# a comment\n\n" + entry(),
    ],
)
def test_what_one_reader_accepts_the_other_reads_alike(page, text):
    page.write_text(text)
    assert by_pv(page) == by_engine(page) != {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        "- a\n",
        "tiny: here\n",
        "tiny:\n",
        "a: [\n",
        entry() + entry(),
        entry() + entry(name="other"),
        entry(name="Tiny"),
        entry(name="..", source="file: x.gguf"),
        entry(name="'a/b'"),
        entry(name="''"),
        entry(name="[a]"),
        entry(more=", " + PYPI),
        entry(source=""),
        entry(source="file: models/tiny.gguf"),
        entry(source="file: ../tiny.gguf"),
        entry(source="file: /tiny.gguf"),
        entry(source="file: tiny.bin"),
        entry(source="file: [tiny.gguf]"),
        entry(source="file: .gguf"),
        entry(source="file: ''"),
        entry(source="file: ~"),
        entry(source="pypi: x==1"),
        entry(source="pypi: {requirement: x==1}"),
        entry(source="pypi: {requirement: x, member: x/y.gguf}"),
        entry(source="pypi: {requirement: '--index-url=x==1', member: x/y.gguf}"),
        entry(source="pypi: {requirement: x==1, member: x/}"),
        entry(source="pypi: {requirement: x==1, member: x/y.gguf, more: 1}"),
        entry(source="pypi: {requirement: [x==1], member: x/y.gguf}"),
        entry(sha256="AB" * 32),
        entry(sha256="ab" * 31),
        entry(sha256="[" + "ab" * 32 + "]"),
        entry(sha256=DIGITS[:-1]),
        entry(sha256="''"),
        entry(size="0"),
        entry(size="-7"),
        entry(size="7.0"),
        entry(size="true"),
        entry(size="0x7"),
        entry(size="1" + "0" * 16),
        entry(size="[7]"),
        entry(about="about: ''"),
        entry(about="about: []"),
        entry(about="abuot: a test"),
        entry(about="other: 1"),
        entry(more=", url: https://example.org"),
        entry(more=", size: 7"),
        entry() + "---\n" + entry(name="other", source="file: other.gguf"),
        "base: &b {about: a}\ntiny: {<<: *b, licence: x}\n",
    ],
)
def test_what_one_reader_refuses_the_other_refuses(page, text):
    page.write_text(text)
    with pytest.raises(EngineError):
        by_engine(page)
    with pytest.raises(PvError):
        by_pv(page)


def test_a_page_that_is_no_text_is_refused_by_both(page):
    page.write_bytes(entry().encode() + b"# \xff\n")
    with pytest.raises(EngineError):
        by_engine(page)
    with pytest.raises(PvError):
        by_pv(page)
