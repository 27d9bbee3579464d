import hashlib

import pytest

from pv.config import Config, cache_folder, find, locate, registered, registry
from pv.errors import PvError

DIGEST = hashlib.sha256(b"weights").hexdigest()


def project(folder, table="", registry=None):
    (folder / "pyproject.toml").write_text(table)
    if registry is not None:
        (folder / "registry.yaml").write_text(registry)
    return find(folder)


def test_a_project_that_cannot_be_looked_for_is_an_error_with_its_place(tmp_path, monkeypatch):
    with pytest.raises(PvError, match=r"x{300}: cannot be read: File name too long$"):
        find(tmp_path / ("x" * 300))

    def closed(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.is_file", closed)
    hint = "run pv as somebody who may look into the folder"
    with pytest.raises(
        PvError, match=rf"^{tmp_path}/pyproject.toml: cannot be read: Permission denied\n  hint: {hint}$"
    ):
        find(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("pv.config._packages", closed)
    with pytest.raises(PvError, match=rf"^{tmp_path}: cannot be read: Permission denied\n  hint: {hint}$"):
        find(tmp_path)


def test_the_table_is_read_from_any_folder_below_its_project(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text('[project]\nname = "inner"\n')
    project(
        tmp_path,
        '[tool.pv]\ncontracts = "c"\nevidence = "e"\nmodels = "m.yaml"\nmilestones = "g.yaml"\n'
        'first-party = ["x", "w"]\n',
    )
    assert find(below) == Config(
        root=tmp_path,
        contracts=tmp_path / "c",
        evidence=tmp_path / "e",
        models=tmp_path / "m.yaml",
        milestones=tmp_path / "g.yaml",
        first_party=("w", "x"),
    )


def test_the_search_ends_at_the_root_of_the_repository(tmp_path):
    project(tmp_path, '[tool.pv]\ncontracts = "theirs"\n')
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    assert find(tmp_path / "clone").contracts == tmp_path / "clone" / "contracts"


def test_a_repository_that_never_heard_of_pv_gets_defaults(tmp_path):
    for name in (
        "lib/__init__.py",
        "spaces/module.py",
        "src/inner/__init__.py",
        "single.py",
        "docs/index.md",
        "a-b.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    config = project(tmp_path, '[project]\nname = "x"\n[project.scripts]\ntool = "lib.cli:main"\n')
    assert config == Config(
        root=tmp_path,
        contracts=tmp_path / "contracts",
        evidence=tmp_path / "evidence",
        first_party=("inner", "lib", "single", "spaces"),
        scripts=(("tool", "lib.cli"),),
    )
    assert config.sources == (tmp_path, tmp_path / "src")
    assert registry(config) == {}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('contract = "c"', r"pyproject\.toml: \[tool\.pv\] has no key 'contract'\n  hint: did you mean 'contracts'\?$"),
        ("evidence = 3", r"pyproject\.toml: \[tool\.pv\] evidence must be a path, not 3$"),
        ('models = ""', r"\[tool\.pv\] models must be a path, not ''$"),
        ('first-party = "lib"', r"\[tool\.pv\] first-party must be a list of names of top-level packages, not 'lib'$"),
        ('first-party = ["a.b"]', r"\[tool\.pv\] first-party must be a list"),
        (
            "trusted-keys = []",
            r"trusted-keys must be a list of files of public keys, not \[\]\n  hint: trusted-",
        ),
        ('trusted-keys = "k"', r"\[tool\.pv\] trusted-keys must be a list of files of public keys, not 'k'\n"),
        ("trusted-keys = [1]", r"\[tool\.pv\] trusted-keys must be a path, not 1$"),
        ('trusted-keys = ["k", "./k"]', r"\[tool\.pv\] trusted-keys names .*/k twice$"),
        ("store = 1", r"\[tool\.pv\] store must be a URL, not 1\n  hint: store = "),
        ('store = "a/folder"', r"\[tool\.pv\] store must be a URL, not 'a/folder'\n"),
        ('store = "file:///"', r"\[tool\.pv\] store must be a URL, not 'file:///'\n"),
        ('store = "file://a/folder"', r"\[tool\.pv\] store must be an absolute path, not 'file://a/folder'\n"),
        ('store = "sftp://me:secret@host/x"', r"\[tool\.pv\] store must not name a user or a password\n  hint: leave"),
        ("contracts = ", r"pyproject\.toml: cannot be read: Invalid value"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_the_key(tmp_path, table, message):
    with pytest.raises(PvError, match=message):
        project(tmp_path, f"[tool.pv]\n{table}\n")


def test_tool_must_be_a_table(tmp_path):
    with pytest.raises(PvError, match=r"pyproject\.toml: tool must be a table$"):
        project(tmp_path, "tool = 1\n")


def test_the_settings_are_keys_that_the_table_may_have(tmp_path):
    table = '[tool.pv]\nbaseline = "b"\nsuppress = []\n[tool.pv.severity]\n'
    assert project(tmp_path, table) == Config(
        root=tmp_path, contracts=tmp_path / "contracts", evidence=tmp_path / "evidence"
    )


def test_tool_pv_must_be_a_table(tmp_path):
    with pytest.raises(PvError, match=r"\[tool\.pv\] must be a table$"):
        project(tmp_path, "[tool]\npv = 1\n")


MODELS = '[tool.pv]\nmodels = "registry.yaml"\n'
COMMON = f"about: a test, licence: CC0-1.0, sha256: {DIGEST}"
ENTRY = f"tiny: {{{COMMON}, size: 7, file: tiny.gguf}}\n"
PULLED = f"far: {{{COMMON}, size: 7, pypi: {{requirement: wheel==1, member: wheel/data/far.gguf}}}}\n"


def test_a_model_beside_the_registry_is_found_and_its_digest_verified(tmp_path):
    config = project(tmp_path, MODELS, ENTRY)
    model = registered(config, "tiny")
    assert (model.sha256, model.size) == (DIGEST, 7)
    assert locate(model) is None
    (tmp_path / "tiny.gguf").write_bytes(b"weights")
    assert locate(model) == tmp_path / "tiny.gguf"
    (tmp_path / "tiny.gguf").write_bytes(b"Weights")
    with pytest.raises(
        PvError, match=r"tiny\.gguf: is not the registered tiny: sha256 .*\n  hint: remove it and obtain"
    ):
        locate(model)
    (tmp_path / "tiny.gguf").write_bytes(b"weights and more")
    with pytest.raises(PvError, match=r"tiny\.gguf: is not the registered tiny: 16 bytes, registered 7\n"):
        locate(model)


def test_a_pulled_model_lies_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PV_MODELS", str(tmp_path / "cache"))
    model = registered(project(tmp_path, MODELS, PULLED), "far")
    assert model.path == tmp_path / "cache" / "far.gguf"
    assert locate(model) is None
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "far.gguf").write_bytes(b"weights")
    assert locate(model) == tmp_path / "cache" / "far.gguf"


def test_the_cache_is_the_users_own_by_default(monkeypatch):
    monkeypatch.delenv("PV_MODELS", raising=False)
    assert cache_folder().parts[-2:] == ("pv-contracts", "models")


def test_a_registry_that_changes_is_read_again(tmp_path):
    config = project(tmp_path, MODELS, ENTRY)
    assert set(registry(config)) == {"tiny"}
    (tmp_path / "registry.yaml").write_text(ENTRY + PULLED)
    assert set(registry(config)) == {"tiny", "far"}


def test_an_unknown_model_is_an_error_where_it_is_named(tmp_path):
    config = project(tmp_path, MODELS, ENTRY)
    with pytest.raises(PvError, match=r"^x\.yaml:3: no model 'tinny' in the registry\n  hint: did you mean 'tiny'\?$"):
        registered(config, "tinny", where="x.yaml:3")
    with pytest.raises(PvError, match=r"no model 'tiny' in the registry\n  hint: name a registry: \[tool\.pv\] models"):
        registered(project(tmp_path, "[tool.pv]\n"), "tiny")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", r"registry\.yaml: a registry maps names of models to what they are$"),
        ("{}\n", r"registry\.yaml: a registry maps names of models to what they are$"),
        (
            "tiny: here\n",
            r"registry\.yaml: model 'tiny': must be a mapping\n  hint: an entry has about, licence",
        ),
        (ENTRY.replace("tiny:", "Tiny:"), r"model 'Tiny': the name must be of a-z"),
        (ENTRY.replace(DIGEST, "ABC"), r"model 'tiny': sha256 must be 64 hexadecimal digits in lower case\n"),
        (ENTRY.replace("size: 7", "size: true"), r"model 'tiny': size must be a number of bytes, not 'true'\n"),
        (ENTRY.replace("size: 7, ", ""), r"model 'tiny': missing or unknown: size\n"),
        (ENTRY.replace("about:", "abuot:"), r"model 'tiny': missing or unknown: about, abuot\n"),
        (ENTRY.replace("a test", "[]"), r"model 'tiny': about must be a text\n"),
        (ENTRY.replace(", file: tiny.gguf", ""), r"model 'tiny': must have either file or pypi\n"),
        (
            ENTRY.replace("file: tiny.gguf", "file: [a]"),
            r"model 'tiny': '' must be the name of a GGUF file",
        ),
        (
            ENTRY.replace("file: tiny.gguf", "pypi: x==1"),
            r"model 'tiny': pypi must be a mapping of requirement",
        ),
        (PULLED.replace("wheel==1", "wheel>=1"), r"model 'far': the requirement must be name==version\n"),
        (ENTRY + ENTRY.replace("tiny:", "other:"), r"model 'other': its file tiny\.gguf is that of 'tiny'$"),
    ],
)
def test_a_wrong_registry_is_an_error_that_names_the_model(tmp_path, text, message):
    with pytest.raises(PvError, match=message):
        registry(project(tmp_path, MODELS, text))


def test_a_missing_registry_is_an_error(tmp_path):
    with pytest.raises(PvError, match=r"registry\.yaml: cannot be read: No such file or directory$"):
        registry(project(tmp_path, MODELS))


@pytest.mark.parametrize("key", ["contracts", "evidence", "models", "baseline"])
def test_a_path_with_a_nul_character_is_refused(tmp_path, key):
    with pytest.raises(PvError, match=rf"pyproject\.toml: \[tool\.pv\] {key} must be a path, not 'b\\x00l'$"):
        project(tmp_path, f'[tool.pv]\n{key} = "b\\u0000l"\n')


def test_a_model_whose_file_can_have_no_such_name_is_not_on_this_machine(tmp_path):
    long = f"{'x' * 300}.gguf"
    model = registered(project(tmp_path, MODELS, ENTRY.replace("tiny.gguf", long)), "tiny")
    assert model.path == tmp_path / long
    assert locate(model) is None


def test_a_registry_that_is_a_folder_is_an_error(tmp_path):
    (tmp_path / "registry.yaml").mkdir()
    with pytest.raises(PvError, match=r"registry\.yaml: cannot be read: Is a directory$"):
        registry(project(tmp_path, MODELS))


def test_a_cache_in_the_home_of_nobody_is_a_path_like_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PV_MODELS", "~no-such-user/models")
    assert cache_folder() == tmp_path / "~no-such-user" / "models"


def test_a_link_that_leads_to_itself_lies_in_the_project_around_it(tmp_path):
    project(tmp_path, "[tool.pv]\n")
    (tmp_path / "loop").symlink_to("loop")
    assert find(tmp_path / "loop").root == tmp_path


def test_trusted_keys_and_a_store_are_read(tmp_path):
    table = '[tool.pv]\ntrusted-keys = ["keys/ci.pub", "old.pub"]\nstore = "s3://bucket/prefix/"\n'
    config = project(tmp_path, table)
    assert config.trusted_keys == (tmp_path / "keys/ci.pub", tmp_path / "old.pub")
    assert config.store == "s3://bucket/prefix"
