from dataclasses import replace

import pytest

from pv.canonical import sha256
from pv.cli import main
from pv.errors import PvError
from pv.evidence.artifacts import artifacts_of, keep_artifacts
from pv.evidence.folder import read
from pv.evidence.recording import keep
from pv.statement import record_of, statement_bytes
from tests.pv.evidence.test_folder import BASE

ONE, TWO = b"one" * 10, b"two" * 20
KEPT = replace(
    BASE,
    outputs={"logits": sha256(ONE), "text": sha256(TWO), "digest only": "ab" * 32},
    artifacts={"logits": 30, "text": 60},
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project whose one record names two artifacts, both in its store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f'[tool.pv]\nstore = "file://{tmp_path}/store"\n')
    (tmp_path / "spool").mkdir()
    for data in (ONE, TWO):
        (tmp_path / "spool" / sha256(data)).write_bytes(data)
    keep_artifacts(KEPT, f"file://{tmp_path}/store", tmp_path / "spool")
    keep(tmp_path / "evidence", [KEPT])
    return tmp_path


def file_of(place, data):
    return place / "store" / "sha256" / sha256(data)[:2] / sha256(data)


def test_the_artifacts_of_the_records_are_listed_with_where_they_lie(place, capsys):
    assert main(["evidence", "artifacts"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{sha256(ONE)} 30 file://{file_of(place, ONE)} present (byte-format-v1/FALSIFY-BF-001 logits)",
        f"{sha256(TWO)} 60 file://{file_of(place, TWO)} present (byte-format-v1/FALSIFY-BF-001 text)",
        "artifacts 2 of 1 records: 2 present, 0 missing, 0 different; only sizes were compared (--verify reads them)",
    ]


def test_an_artifact_that_two_records_name_is_one():
    assert len(artifacts_of({"a": KEPT, "b": replace(KEPT, seed=8)})) == 2


def test_reading_every_artifact_finds_a_missing_and_a_different_one(place, capsys):
    assert main(["evidence", "artifacts", "--verify"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "artifacts 2 of 1 records: 2 present, 0 missing, 0 different"
    file_of(place, ONE).write_bytes(b"0" * 30)
    assert main(["evidence", "artifacts"]) == 0  # it says that it did not look there
    assert capsys.readouterr().out.endswith("; only sizes were compared (--verify reads them)\n")
    assert main(["evidence", "artifacts", "--verify"]) == 1
    assert f" different: sha256 {sha256(b'0' * 30)[:12]}.. (" in capsys.readouterr().out
    for verify in ([], ["--verify"]):
        file_of(place, ONE).write_bytes(b"0")
        assert main(["evidence", "artifacts", *verify]) == 1
        assert " different: 1 bytes (" in capsys.readouterr().out
        file_of(place, ONE).unlink()
        assert main(["evidence", "artifacts", *verify]) == 1
        assert "1 present, 1 missing, 0 different" in capsys.readouterr().out


@pytest.mark.parametrize("damaged", [b"0", b"0" * 30], ids=["truncated", "flipped"])
def test_recording_again_repairs_a_damaged_artifact(place, damaged):
    file_of(place, ONE).write_bytes(damaged)
    assert main(["evidence", "artifacts", "--verify"]) == 1
    keep_artifacts(KEPT, f"file://{place}/store", place / "spool")
    assert main(["evidence", "artifacts", "--verify"]) == 0


def test_damaged_evidence_is_never_verified(place, capsys):
    (record,) = (place / "evidence" / BASE.contract / BASE.test).iterdir()
    record.write_bytes(b"x")
    assert main(["evidence", "artifacts"]) == 1
    assert main(["evidence", "artifacts", "--verify"]) == 2
    (place / "evidence" / "README").write_text("")
    record.write_bytes(statement_bytes(KEPT))
    assert main(["evidence", "artifacts", "--verify"]) == 1
    assert "README: is no statement" in capsys.readouterr().err


def test_an_artifact_is_fetched_by_the_beginning_of_its_digest(place, capsys):
    assert main(["evidence", "artifacts", "--fetch", sha256(ONE)[:8], "--output", "out"]) == 0
    assert (place / "out").read_bytes() == ONE
    file_of(place, TWO).write_bytes(b"0" * 60)
    assert main(["evidence", "artifacts", "--fetch", sha256(TWO), "--output", "two"]) == 1
    file_of(place, TWO).unlink()
    assert main(["evidence", "artifacts", "--fetch", sha256(TWO), "--output", "two"]) == 1
    assert not (place / "two").exists()
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "nothing was written",
        f"{file_of(place, TWO)}: is missing".rpartition(": ")[2],
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--fetch", "abababab", "--output", "x"], "no artifact is called 'abababab': 0 artifacts begin with it"),
        (["--fetch", "ab", "--output", "x"], "no artifact is called 'ab': it is shorter than 8 digits"),
        (["--fetch", "abababab"], "--fetch DIGEST and --output FILE go together"),
        (["--output", "x"], "--fetch DIGEST and --output FILE go together"),
        (["--verify", "--fetch", "abababab", "--output", "x"], "--verify reads every artifact, --fetch brings one"),
    ],
)
def test_a_wrong_request_is_one_error(place, capsys, arguments, why):
    assert main(["evidence", "artifacts", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"pv: {why}")


def test_without_a_store_artifacts_are_listed_and_nothing_is_verified(place, capsys):
    (place / "pyproject.toml").write_text("[tool.pv]\n")
    assert main(["evidence", "artifacts"]) == 0
    assert "artifacts 2 of 1 records: 0 present, 0 missing, 0 different, 2 not kept" in capsys.readouterr().out
    assert main(["evidence", "artifacts", "--verify"]) == 2
    assert "no store is named\n  hint: " in capsys.readouterr().err


def test_verifying_nothing_is_not_green(place, capsys):
    (place / "pyproject.toml").write_text('[tool.pv]\nevidence = "none"\nstore = "memory://none"\n')
    assert main(["evidence", "artifacts", "--verify"]) == 2
    assert "nothing was verified: no record names an artifact" in capsys.readouterr().err


def test_bytes_that_are_not_on_this_machine_are_not_kept(place):
    (place / "spool" / sha256(TWO)).unlink()
    with pytest.raises(PvError, match=r"^artifact 'text': the bytes that were put out are not on this machine$"):
        keep_artifacts(KEPT, f"file://{place}/store", place / "spool")


def test_a_statement_says_which_outputs_are_kept_and_how_large_they_are(place):
    assert record_of(statement_bytes(KEPT)) == KEPT
    assert read(place / "evidence").problems == ()
    assert b"artifacts" not in statement_bytes(BASE)


@pytest.mark.parametrize("artifacts", [b"{}", b'{"logits":-1}', b'{"logits":true}', b'{"other":30}', b"[]", b"7"])
def test_a_statement_with_wrong_artifacts_is_refused(artifacts):
    data = statement_bytes(KEPT).replace(b'{"logits":30,"text":60}', artifacts)
    with pytest.raises(PvError, match=r"^(is not a pv statement|contradicts itself)"):
        record_of(data)


def test_without_any_record_nothing_was_looked_at(tmp_path, monkeypatch, capsys):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\n")
    monkeypatch.chdir(tmp_path)
    assert main(["evidence", "artifacts"]) == 2
    assert capsys.readouterr().err.startswith("pv: nothing was looked at: there is no record")
