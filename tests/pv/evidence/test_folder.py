import json
import os
from dataclasses import replace

import pytest

from pv.canonical import canonical, sha256
from pv.evidence import folder
from pv.evidence.folder import read
from pv.evidence.recording import keep
from pv.outcome import Outcome
from pv.statement import Record, environment, statement, statement_bytes
from tests.pv.kept import read_all

BASE = Record(
    contract="byte-format-v1",
    test="FALSIFY-BF-001",
    role="algorithm",
    falsifier="falsifiers.byte_format:parses",
    outcome=Outcome.SURVIVED,
    seed=7,
    comparisons=3,
    observations={"worst": 1.5},
    claim="01" * 32,
    code="23" * 32,
    environment=environment(),
)


def kept(folder, record=BASE):
    """Keep one record, and return its file."""
    keep(folder, [record])
    return folder / record.contract / record.test / f"{sha256(statement_bytes(record))}.json"


def problem(folder):
    """Why the one file that cannot be believed cannot be."""
    records, problems = read_all(folder)
    assert records == []
    (found,) = problems
    return found.why


def test_a_record_that_a_run_lists_is_read_with_that_run(tmp_path):
    kept(tmp_path)
    found = read(tmp_path)
    ((one,), left_out) = found.of("byte-format-v1", "FALSIFY-BF-001")
    assert left_out == 0
    assert (found.problems, found.notes) == ((), ())
    assert one.record == BASE
    assert one.digest == sha256(statement_bytes(BASE))
    assert [list(run.records.values()) for run in one.runs] == [["FALSIFY-BF-001[algorithm]"]]
    assert found.of("byte-format-v1", "FALSIFY-BF-002") == ([], 0)


def test_a_missing_folder_holds_no_evidence(tmp_path):
    assert read_all(tmp_path / "none") == ([], [])


def test_an_edited_statement_is_a_problem(tmp_path):
    path = kept(tmp_path, replace(BASE, outcome=Outcome.FALSIFIED))
    path.write_bytes(path.read_bytes().replace(b"FALSIFIED", b"SURVIVED"))
    assert problem(tmp_path).startswith("was changed after it was written: its bytes have sha256 ")


def test_every_edited_byte_is_noticed(tmp_path):
    path = kept(tmp_path)
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert problem(tmp_path).startswith("was changed after it was written"), at


def planted(folder, data, contract=BASE.contract, test=BASE.test):
    path = folder / contract / test / f"{sha256(data)}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[]", "is not a pv statement: the statement: [] is not of type 'object'"),
        (b"{", "cannot be read: "),
        (b"\xff\xfe", "cannot be read: "),
        (b"[" * 100_000, "cannot be read: "),
        (json.dumps(statement(BASE)).encode(), "is not canonical JSON (RFC 8785)"),
    ],
)
def test_bytes_that_are_no_statement_are_a_problem(tmp_path, data, why):
    planted(tmp_path, data)
    assert problem(tmp_path).startswith(why)


def test_a_statement_in_the_folder_of_another_test_is_a_problem(tmp_path):
    planted(tmp_path, canonical(statement(BASE)), test="FALSIFY-BF-002")
    assert problem(tmp_path) == "lies in the folder of another test: it is about byte-format-v1/FALSIFY-BF-001"


def test_what_is_no_statement_is_a_problem_and_hides_no_record(tmp_path):
    path = kept(tmp_path)
    (tmp_path / "README.md").write_text("")
    (path.parent / "link.json").symlink_to(path)
    (tmp_path / "loop").symlink_to(tmp_path)
    for place in (tmp_path, tmp_path / "_runs", path.parent):
        os.mkfifo(place / "pipe.json")  # to open one waits for ever
    (path.parent / "deeper").mkdir()
    (path.parent / "deeper" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "_runs" / "notes.txt").write_text("")
    records, problems = read_all(tmp_path)
    no_statement = "is no statement: statements are <contract>/<test>/<sha256>.json and _runs/<sha256>.json"
    assert records == [BASE]
    assert [(problem.path.removeprefix(f"{tmp_path}/"), problem.why) for problem in problems] == [
        ("README.md", no_statement),
        ("_runs/notes.txt", no_statement),
        ("_runs/pipe.json", "is no regular file"),
        (f"byte-format-v1/FALSIFY-BF-001/deeper/{path.name}", no_statement),
        ("byte-format-v1/FALSIFY-BF-001/link.json", "is a symbolic link"),
        ("byte-format-v1/FALSIFY-BF-001/pipe.json", "is no regular file"),
        ("loop", "is a symbolic link"),
        ("pipe.json", "is no regular file"),
    ]


def test_a_folder_that_is_a_link_holds_nothing_that_can_be_believed(tmp_path):
    kept(tmp_path / "real")
    (tmp_path / "evidence").symlink_to(tmp_path / "real")
    assert problem(tmp_path / "evidence") == "is a symbolic link"


def test_damage_in_the_chain_concerns_every_test_and_damage_to_a_record_its_own(tmp_path):
    one = kept(tmp_path)
    other = kept(tmp_path, replace(BASE, test="FALSIFY-BF-002"))
    one.unlink()
    found = read(tmp_path)
    assert [problem.path for problem in found.lost("byte-format-v1", "FALSIFY-BF-001")] == [str(one)]
    assert found.lost("byte-format-v1", "FALSIFY-BF-002") == []
    first, _ = found.chain.runs
    (tmp_path / "_runs" / f"{first}.json").unlink()
    found = read(tmp_path)
    assert other.exists()
    for test in ("FALSIFY-BF-001", "FALSIFY-BF-002"):
        assert [problem.why.partition(":")[0] for problem in found.lost("byte-format-v1", test)] == ["is missing"]


def test_a_file_that_goes_away_while_the_folder_is_read_is_a_problem(tmp_path, monkeypatch):
    path = kept(tmp_path)

    class Gone:  # as a DirEntry
        name, path = "gone.json", str(tmp_path / "gone.json")

        def is_file(self, *, follow_symlinks):
            return True

        def stat(self, *, follow_symlinks):
            return os.stat(self.path)

    scanned = folder._scanned
    monkeypatch.setattr(
        folder, "_scanned", lambda at, problems: [*scanned(at, problems), *([Gone()] if at == str(path.parent) else [])]
    )
    records, problems = read_all(tmp_path)
    assert records == [BASE]
    assert [(problem.path, problem.why) for problem in problems] == [
        (Gone.path, "cannot be read: No such file or directory")
    ]
