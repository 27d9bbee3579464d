import json

import pytest

from pv.cli import main
from pv.errors import PvError
from pv.evidence.folder import read
from pv.evidence.keys import make_pair, signer_of
from pv.evidence.merging import merge
from pv.evidence.recording import keep
from pv.evidence.signing import named_runs, sign
from tests.pv.evidence.test_folder import BASE


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project with three runs, the last of which is the head, and two keys, of which one is trusted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PV_SIGNING_KEY", raising=False)
    for name in ("ci", "other"):
        make_pair(tmp_path / name)
    (tmp_path / "pyproject.toml").write_text('[tool.pv]\ntrusted-keys = ["ci.pub"]\n')
    for _ in range(3):
        keep(tmp_path / "evidence", [BASE])
    return tmp_path


def believed(place):
    found = read(place / "evidence", trusted=[place / "ci.pub"])
    return [digest in found.believed for digest in found.chain.runs]


def files(place):
    return {file: (file.read_bytes(), file.stat().st_ino) for file in (place / "evidence").rglob("*.json")}


def test_the_heads_are_signed_by_default_once(place, capsys):
    assert main(["evidence", "sign", "--key", "ci"]) == 0
    assert believed(place) == [False, False, True]
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 of 3 runs signed, 0 were already, by key ")
    before = files(place)
    assert main(["evidence", "sign", "--key", "ci"]) == 0
    assert files(place) == before
    assert "0 of 3 runs signed, 1 were already, by key " in capsys.readouterr().out


def test_all_runs_or_named_ones_are_signed(place, capsys):
    first, second, _ = read(place / "evidence").chain.runs
    assert main(["evidence", "sign", "--key", "ci", second[:8]]) == 0
    assert believed(place) == [False, True, False]
    assert main(["evidence", "sign", "--key", "ci", "--all"]) == 0
    assert believed(place) == [True, True, True]
    assert "2 of 3 runs signed, 1 were already" in capsys.readouterr().out
    assert main(["evidence", "sign", "--key", "ci", "--all", first]) == 2
    assert "--all signs every run: name no runs beside it" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "why"), [("0" * 8, "names 0 runs"), ("abc", "is shorter than 8 digits")])
def test_a_name_of_no_run_is_an_error(place, name, why):
    with pytest.raises(PvError, match=rf"^'{name}' {why}\n  hint: the files of .*_runs are named after"):
        named_runs(read(place / "evidence"), [name])


def test_a_key_that_is_not_trusted_signs_and_is_told(place, capsys):
    assert main(["evidence", "sign", "--key", "other"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("note: [tool.pv] trusted-keys does not name key ")
    assert believed(place) == [False, False, False]


def test_the_key_in_the_environment_signs(place, monkeypatch):
    monkeypatch.setenv("PV_SIGNING_KEY", (place / "ci").read_text())
    assert main(["evidence", "sign"]) == 0
    assert believed(place) == [False, False, True]


def test_evidence_that_does_not_verify_is_never_signed(place, capsys):
    (record,) = (place / "evidence" / BASE.contract / BASE.test).iterdir()
    record.unlink()
    before = files(place)
    assert main(["evidence", "sign", "--key", "ci"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "pv: nothing was signed: nobody can vouch for evidence that does not verify"
    )
    assert files(place) == before


def test_a_folder_without_runs_signs_nothing(place, capsys):
    (place / "pyproject.toml").write_text('[tool.pv]\nevidence = "none"\n')
    assert main(["evidence", "sign", "--key", "ci"]) == 2
    assert "nothing was signed: " in capsys.readouterr().err


@pytest.mark.parametrize("damage", [lambda data: b"x", lambda data: data.replace(b'"sig":"', b'"sig":"AAAA')])
def test_a_damaged_signature_is_made_again(place, damage):
    assert main(["evidence", "sign", "--key", "ci"]) == 0
    (path,) = (place / "evidence" / "_signatures").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert believed(place) == [False, False, False]
    assert main(["evidence", "sign", "--key", "ci"]) == 0
    assert path.read_bytes() == whole


def test_a_signature_is_never_written_through_a_link(place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    found = read(place / "evidence")
    (place / "evidence" / "_signatures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PvError, match=r"_signatures/.*: is a symbolic link: evidence is never written through one$"):
        sign(found, found.chain.heads[0], signer_of(str(place / "ci"), None))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_a_signer_does_not_sign_validly_is_not_kept(place, monkeypatch):
    signer, other = (signer_of(str(place / name), None) for name in ("ci", "other"))
    found = read(place / "evidence")
    monkeypatch.setattr(signer, "_private_key", other._private_key)
    with pytest.raises(
        PvError, match=r"^the signature of run .* is not valid: it was not kept\n  hint: the private key"
    ):
        sign(found, found.chain.heads[0], signer)

    def fails(payload):
        raise RuntimeError("no\nnetwork")

    monkeypatch.setattr(signer, "sign", fails)
    with pytest.raises(PvError, match=r"^the signer did not sign run .*: no network$"):
        sign(found, found.chain.heads[0], signer)
    assert not (place / "evidence" / "_signatures").exists()


def test_a_new_pair_is_made_and_told(place, capsys):
    assert main(["evidence", "keygen", "new"]) == 0
    told = capsys.readouterr().out
    assert "new.pub: the public key " in told
    assert "PRIVATE" not in told
    assert main(["evidence", "keygen", "new"]) == 2


def test_signatures_are_taken_over_with_the_runs(place):
    assert main(["evidence", "sign", "--key", "ci", "--all"]) == 0
    merge(place / "united", [place / "evidence"])
    found = read(place / "united", trusted=[place / "ci.pub"])
    assert (len(found.believed), found.problems) == (3, ())


def test_verify_says_which_runs_nobody_signed(place, capsys):
    assert main(["evidence", "verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"][0].startswith("3 of 3 runs are not signed by a trusted key")


def test_a_run_that_changes_while_it_is_signed_is_not_signed(place):
    found = read(place / "evidence")
    head = found.chain.heads[0]
    (place / "evidence" / "_runs" / f"{head}.json").write_bytes(b"{}")
    with pytest.raises(PvError, match=r"was changed while it was signed\n"):
        sign(found, head, signer_of(str(place / "ci"), None))
