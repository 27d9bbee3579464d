"""Tests of engine.hub against a hub of our own (tests.engine.hub_server), through the real huggingface_hub."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from engine import hub, registry
from engine.cli import main
from engine.errors import EngineError
from engine.opening import open_model
from tests.engine.checkpoints import small_checkpoint
from tests.engine.hub_server import Hub, Repository
from tests.engine.model_files import keys, tensors, write

APR = Path(sys.executable).parent / "apr"
KEPT = "is there already, checksum verified"


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The files of a sharded folder, and of a GGUF file."""
    base = tmp_path_factory.mktemp("contents")
    files = {path.name: path.read_bytes() for path in small_checkpoint(base, "qwen2", shards=2).iterdir()}
    gguf = write(base / "m.gguf", keys("qwen2"), tensors("qwen2"), "Q8_0").read_bytes()
    return files, gguf


@pytest.fixture
def server(contents, tmp_path, monkeypatch):
    """A hub with me/tiny (safetensors), me/ggufs and me/both; our cache is tmp_path / "cache"."""
    files, gguf = contents
    large = {name for name in files if name.endswith(".safetensors")}
    with Hub() as found:
        found.repositories = {
            "me/tiny": Repository({**files, "README.md": b"# x\n"}, large),
            "me/ggufs": Repository({"sub/m.gguf": gguf, "README.md": b"# x\n"}, {"sub/m.gguf"}),
            "me/both": Repository({**files, "m.gguf": gguf}, large | {"m.gguf"}),
        }
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        template = found.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # whatever this machine wants of the real hub
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()  # made anew, with these settings
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses"), raising=False)
        monkeypatch.setenv("PV_MODELS", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield found


@pytest.fixture
def pull(server, tmp_path):
    return lambda name: hub.pull(name, tmp_path / "cache", lambda line: None)


def refused(pull, name):
    with pytest.raises(EngineError) as caught:
        pull(name)
    assert caught.value.hint
    return caught.value


def records(tmp_path):
    return sorted(
        path.relative_to(tmp_path / "cache/pulled").as_posix()
        for path in (tmp_path / "cache").rglob("pulled/**/*.json")
    )


# ---------------------------------------------------------------- what is obtained


def test_a_folder_is_obtained_verified_and_found_by_its_name(server, pull, contents, tmp_path):
    found = pull("me/tiny")
    assert found.how == "downloaded, checksum verified"
    assert {path.name: path.read_bytes() for path in found.path.iterdir()} == contents[0]
    assert sorted(server.downloads()) == sorted(contents[0])
    assert registry.locate("me/tiny") == found.path
    opened = open_model(found.path)
    assert opened.model.config.name == "me/tiny"
    assert records(tmp_path) == ["me/tiny/main.json"]


def test_a_file_is_obtained_alone(server, pull, contents):
    found = pull("me/ggufs:sub/m.gguf")
    assert found.path.read_bytes() == contents[1]
    assert server.downloads() == ["sub/m.gguf"]
    assert registry.locate("me/ggufs:sub/m.gguf") == found.path
    with pytest.raises(EngineError, match=r"me/ggufs: no such file, .*; pulled are: me/ggufs:sub/m.gguf\n"):
        registry.locate("me/ggufs")


@pytest.mark.parametrize("name", ["me/tiny", "me/ggufs:sub/m.gguf"])
def test_a_second_pull_downloads_nothing(server, pull, name):
    first = pull(name)
    server.asked.clear()
    second = pull(name)
    assert (second.path, second.how) == (first.path, KEPT)
    assert server.asked == [f"GET /api/models/{name.partition(':')[0]}/revision/main"]


def test_a_commit_that_is_there_is_not_even_asked_for(server, pull):
    name = f"me/tiny@{server.repositories['me/tiny'].commit}"
    pull(name)
    server.asked.clear()
    assert pull(name).how == KEPT
    assert server.asked == []


def test_what_another_name_has_obtained_is_used(server, pull):
    first = pull("me/both")
    server.asked.clear()
    commit = server.repositories["me/both"].commit
    assert pull(f"me/both@{commit}").path == first.path
    assert pull("me/both:m.gguf").path == first.path / "m.gguf"
    assert server.downloads() == ["m.gguf"]


def test_a_branch_that_moved_is_followed_and_only_what_changed_is_downloaded(server, pull, contents):
    old = pull("me/tiny").path
    server.asked.clear()
    changed = server.repositories["me/tiny"].files["generation_config.json"] = b'{"eos_token_id": [257, 3]}'
    new = pull("me/tiny")
    assert new.how == "downloaded, checksum verified"
    assert server.downloads() == ["generation_config.json"]
    assert registry.locate("me/tiny") == new.path != old
    assert (new.path / "generation_config.json").read_bytes() == changed
    assert (old / "generation_config.json").read_bytes() == contents[0]["generation_config.json"]


def test_a_revision_is_a_model_of_its_own(server, pull):
    server.repositories["me/tiny"].branches["refs/pr/1"] = ""
    assert pull("me/tiny@refs/pr/1").path == registry.locate("me/tiny@refs/pr/1")
    with pytest.raises(EngineError, match=r"me/tiny: no such file, .*; pulled are: me/tiny@refs/pr/1\n"):
        registry.locate("me/tiny")


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_obtained_again(server, pull, contents, damage):
    first = pull("me/tiny").path
    victim = first / "model-00002-of-00002.safetensors"
    good = contents[0][victim.name]
    victim.resolve().write_bytes(good[:-1] + b"x" if damage is None else damage)
    server.asked.clear()
    again = pull("me/tiny")
    assert again.how == "was damaged; downloaded, checksum verified"
    assert server.downloads() == [victim.name]
    assert victim.read_bytes() == good


def test_a_damaged_file_of_a_commit_is_obtained_again(server, pull, contents):
    name = f"me/tiny@{server.repositories['me/tiny'].commit}"
    victim = pull(name).path / "tokenizer.json"
    size = victim.stat().st_size
    victim.resolve().write_bytes(b" " * size)
    assert pull(name).how == "was damaged; downloaded, checksum verified"
    assert victim.read_bytes() == contents[0]["tokenizer.json"]


def test_what_will_be_downloaded_is_told_and_nothing_if_that_is_nothing(server, tmp_path, contents):
    told = []
    hub.pull("me/ggufs:sub/m.gguf", tmp_path / "cache", told.append)
    assert told == [f"downloading 1 of 1 files, {len(contents[1]):,} bytes"]
    hub.pull("me/ggufs:sub/m.gguf", tmp_path / "cache", told.append)
    assert len(told) == 1


def test_a_damaged_blob_of_another_commit_is_not_linked_to(server, pull, contents):
    first = pull("me/tiny").path
    (first / "tokenizer.json").resolve().write_bytes(b"{}")
    server.repositories["me/tiny"].files["generation_config.json"] = b"{}"
    assert (pull("me/tiny").path / "tokenizer.json").read_bytes() == contents[0]["tokenizer.json"]


def test_a_damaged_record_is_written_anew(server, pull, tmp_path):
    pull("me/tiny")
    (tmp_path / "cache/pulled/me/tiny/main.json").write_text("{")
    with pytest.raises(EngineError, match="is not JSON"):
        registry.locate("me/tiny")
    assert pull("me/tiny").how == KEPT
    registry.locate("me/tiny")


@pytest.mark.parametrize("file", ["model-00001-of-00002.safetensors", "tokenizer_config.json"])
def test_a_file_of_another_checksum_is_refused_and_no_model_is_left(server, pull, contents, tmp_path, file):
    good = contents[0][file]
    server.served[file] = good[:-1] + bytes([good[-1] ^ 1])
    error = refused(pull, "me/tiny")
    assert error.args[0] == f"{file} was received with {len(good)} bytes and another checksum than the hub states"
    assert not list((tmp_path / "cache").rglob(file))
    assert records(tmp_path) == []
    with pytest.raises(EngineError, match="no model of that name was pulled"):
        registry.locate("me/tiny")
    server.served.clear()
    assert pull("me/tiny").how == "downloaded, checksum verified"


def told_about(monkeypatch, change):
    """The hub's answer about a repository, changed."""
    real = huggingface_hub.HfApi.model_info

    def changed(self, *arguments, **options):
        info = real(self, *arguments, **options)
        change(info)
        return info

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", changed)


@pytest.mark.parametrize("stated", [None, "", "../../../../mine", "0" * 39])
@pytest.mark.parametrize("name", ["me/ggufs:sub/m.gguf", "me/tiny"])
def test_a_hub_that_states_no_checksum_is_refused_and_no_file_of_ours_is_touched(
    server, pull, monkeypatch, tmp_path, stated, name
):
    def change(info):
        for sibling in info.siblings:
            sibling.blob_id = stated
            if sibling.lfs:
                sibling.lfs.sha256 = stated

    mine = tmp_path / "mine"
    mine.write_text("kept")
    pull(name)
    told_about(monkeypatch, change)
    assert refused(pull, name).args[0].startswith("the hub states no checksum for ")
    assert mine.read_text() == "kept"


@pytest.mark.parametrize("commit", [None, "main", "../../../x", "0" * 39])
def test_a_hub_that_names_no_commit_is_refused(server, pull, monkeypatch, tmp_path, commit):
    told_about(monkeypatch, lambda info: setattr(info, "sha", commit))
    assert refused(pull, "me/tiny").args[0] == "the hub names no commit"
    assert not (tmp_path / "cache").exists()


def test_an_interrupted_pull_leaves_no_model_and_the_next_one_takes_up_what_is_whole(server, pull, contents, tmp_path):
    """Killed, so that nothing can be tidied up; the environment variable names the hub."""
    server.stall.set()
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
    child = subprocess.Popen([APR, "pull", "me/tiny"], env=environment, stderr=subprocess.DEVNULL)
    assert server.stalled.wait(60)
    while len(server.downloads()) < 4:  # some are whole, this one is not
        server.stall.clear()
        time.sleep(0.05)
        server.stall.set()
    server.stalled.clear()
    assert server.stalled.wait(60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.stall.clear()
    assert records(tmp_path) == []
    for name in ("me/tiny", *map(str, (tmp_path / "cache/hub").glob("models--*/snapshots/*"))):
        assert main(["run", name, "--max-tokens", "1"]) == 2
    server.asked.clear()
    assert pull("me/tiny").how == "downloaded, checksum verified"
    assert 0 < len(server.downloads()) < len(contents[0])


# ---------------------------------------------------------------- what goes wrong


def test_each_refusal_of_the_hub_is_said_in_one_line(server, pull):
    server.repositories["me/gated"] = Repository(server.repositories["me/tiny"].files, gated=True)
    server.repositories["me/private"] = Repository({}, private=True)
    gone = f"{server.url} has no such repository, or it is private"
    for name, message, hint in [
        (
            "me/gated",
            "is gated: its authors choose who may have it (config.json)",
            f"accept its terms at {server.url}/me/gated",
        ),
        ("me/none", gone, "check the name; for a private one, log in with `hf auth login`, or set HF_TOKEN"),
        ("me/private", gone, "check the name; for a private one, log in"),
        ("me/tiny@v9", "the repository has no revision 'v9'", "name a branch, a tag or a commit"),
        ("me/ggufs", "holds no safetensors, but GGUF files", "choose one of them:\n    apr pull me/ggufs:sub/m.gguf"),
        ("me/ggufs:x.gguf", "has no file x.gguf", "choose one of them:"),
        ("me/tiny:model.safetensors", "model.safetensors is no GGUF file", "apr pull me/tiny obtains all"),
        ("me/tiny/x", "is not of the form OWNER/NAME[@REVISION][:FILE]", "as Qwen"),
    ]:
        error = refused(pull, name)
        assert error.args[0] == message
        assert error.hint.startswith(hint)
        assert name.startswith(error.where.partition(":")[0])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "denies access (403)"),
        (500, "is busy or out of order (500)"),
        (429, "is busy or out of order (429)"),
        (418, "answers with status 418"),
    ],
)
def test_a_hub_that_answers_with_an_error_is_told_by_its_status(server, pull, status, message):
    server.status = status
    assert refused(pull, "me/tiny").args[0] == f"{server.url} {message}"


def test_a_hub_that_cannot_be_reached_is_named(server, pull, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    error = refused(pull, "me/tiny")
    assert re.match(r"http://127.0.0.1:9 cannot be reached: .*refused", error.args[0])
    assert error.hint == "check the network, a proxy, and HF_ENDPOINT"


def test_what_is_there_is_kept_when_the_hub_cannot_be_reached(server, pull, monkeypatch):
    first = pull("me/tiny")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert (pull("me/tiny").path, pull("me/tiny").how) == (
        first.path,
        f"{KEPT}; the hub could not be asked for a newer one",
    )
    (first.path / "tokenizer.json").resolve().write_bytes(b"{}")
    assert "cannot be reached" in refused(pull, "me/tiny").args[0]


def test_offline_mode_is_named(server, pull, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = refused(pull, "me/tiny")
    assert (error.args[0], error.hint) == ("nothing can be pulled offline", "unset HF_HUB_OFFLINE")


def test_a_disk_without_room_is_told_before_the_download(server, pull, contents, monkeypatch):
    need = sum(map(len, contents[0].values())) - len(contents[0]["config.json"])
    need -= len(contents[0]["model.safetensors.index.json"])
    free = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=need - 1))
    error = refused(pull, "me/tiny")
    assert error.args[0] == f"{need:,} bytes are needed, but {need - 1:,} are free"
    assert sorted(server.downloads()) == ["config.json", "model.safetensors.index.json"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=need))
    assert pull("me/tiny").how == "downloaded, checksum verified"


def test_a_file_that_the_hub_lists_and_does_not_have_is_named(server, pull):
    server.gone.add("tokenizer.json")
    assert refused(pull, "me/tiny").args[0] == "the hub lists the file, but does not have it (tokenizer.json)"


def raised_by_the_library(error, monkeypatch):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)


@pytest.mark.parametrize(
    ("error", "where", "message"),
    [
        (RuntimeError("a worker of xet\nended"), "me/tiny", "could not be pulled: a worker of xet (config.json)"),
        (RuntimeError(), "me/tiny", "could not be pulled: RuntimeError (config.json)"),
        (
            OSError("Consistency check failed: 3 bytes"),
            "me/tiny",
            "could not be pulled: Consistency check failed: 3 bytes (conf",
        ),
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y", "cannot be written: Permission denied"),
        (OSError(28, "No space left on device"), "me/tiny", "cannot be written: No space left on device"),
    ],
    ids=str,
)
def test_an_error_of_any_class_is_one_line(server, pull, monkeypatch, error, where, message):
    raised_by_the_library(error, monkeypatch)
    told = refused(pull, "me/tiny")
    assert told.where == where
    assert told.args[0].startswith(message)


def test_an_error_below_another_is_the_one_that_is_told(server, pull, monkeypatch):
    """What the library raises when the hub goes away between two requests says nothing but that it has no copy."""
    try:
        huggingface_hub.HfApi(endpoint="http://127.0.0.1:9").model_info("o/n")
    except Exception as below:
        error = LocalEntryNotFoundError("not in the cache")
        error.__cause__ = below
    raised_by_the_library(error, monkeypatch)
    assert re.match(
        r"http://127.0.0.1:\d+ cannot be reached: .*refused \(config.json\)$", refused(pull, "me/tiny").args[0]
    )
    raised_by_the_library(LocalEntryNotFoundError("not in the cache"), monkeypatch)
    assert refused(pull, "me/tiny").args[0] == "the hub lists the file, but does not have it (config.json)"


def test_a_cache_that_cannot_be_written_is_told(server, pull, tmp_path):
    (tmp_path / "cache").write_text("")
    error = refused(pull, "me/tiny")
    assert error.args[0].startswith("cannot be written: ")
    assert "PV_MODELS" in error.hint


@pytest.mark.parametrize("version", ["0.36.2", None])
def test_a_library_that_is_too_old_or_missing_is_told_before_the_hub_is_asked(server, pull, monkeypatch, version):
    if version is None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    else:
        monkeypatch.setattr(huggingface_hub, "__version__", version)
    error = refused(pull, "me/tiny")
    assert error.args[0].startswith(
        f"models of a hub need huggingface_hub 1.0 or newer; installed is {version or 'none'}"
    )
    assert error.hint == "pip install 'pv-contracts[hub]'"
    assert server.asked == []


# ---------------------------------------------------------------- the command


def test_the_command_pulls_and_runs_by_name(server, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["pull", "me/tiny"]) == 0
    done = capfd.readouterr()
    assert done.out == f"{registry.locate('me/tiny')}: downloaded, checksum verified\n"
    assert re.fullmatch(r"apr: downloading 5 of 7 files, [\d,]+ bytes\n", done.err)
    assert main(["pull", "me/ggufs:sub/m.gguf"]) == 0
    for name in ("me/tiny", "me/ggufs:sub/m.gguf"):
        assert main(["run", name, "--max-tokens", "1"]) == 0
    assert main(["trace", "me/tiny", "--save-tensor", "lm_head"]) == 0
    assert (tmp_path / "tiny-trace/lm_head.bin").exists()
    capfd.readouterr()
    assert main(["pull", "me/none"]) == 2
    done = capfd.readouterr()
    assert done.out == ""
    assert done.err.startswith("apr: me/none: http://127.0.0.1:")
    assert len(done.err.splitlines()) == 2


def test_a_registered_model_has_no_slash_and_is_pulled_as_ever(capsys):
    assert main(["pull", "tiny-qwen2"]) == 0
    assert capsys.readouterr().out.endswith("is part of the package\n")


def test_git_counts_the_bytes_of_a_blob(tmp_path):
    (tmp_path / "f").write_bytes(b"hello\n")
    assert hub.git_id(tmp_path / "f") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
