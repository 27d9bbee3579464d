import io
import subprocess
import sys
from pathlib import Path

import pytest

from pv import validate as module
from pv.cli import main
from pv.measure import Measured
from pv.validate import validate

CONTRACTS = Path(__file__).parents[1] / "contracts"
GOOD = CONTRACTS / "good" / "kernel-of-the-first-generation.yaml"
BAD = CONTRACTS / "bad" / "schema-004-empty-formula.yaml"
OURS = CONTRACTS / "good" / "bound-test.yaml"


@pytest.fixture
def piped(monkeypatch, capsys):
    def run(data, *arguments):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = main(["validate", "--no-cache", *arguments])
        return code, capsys.readouterr().out.splitlines()

    return run


def test_standard_input_is_measured_once_and_shown_with_its_lines(piped):
    code, out = piped(BAD.read_bytes(), "-", "-")
    assert code == 1
    assert out[0] == "<stdin>:10:5: error SCHEMA-004: equation 'length_prefix' has no formula"
    assert out[1] == '  10 |     formula: "  "'
    assert out[-1].startswith("reject: 1 file: 0 accepted, 1 rejected")


@pytest.mark.parametrize(
    ("data", "code", "what"),
    [(GOOD.read_bytes(), 0, "accept: 1 file"), (b"", 2, "<stdin>: not measured: holds no contract: it is empty")],
    ids=["good", "empty"],
)
def test_standard_input_has_the_verdict_of_a_file(piped, data, code, what):
    found, out = piped(data, "-")
    assert found == code
    assert out[0].startswith(what)


def test_a_contract_of_ours_on_standard_input_belongs_to_the_project_around_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stdin.yaml").write_bytes(OURS.read_bytes())
    piped, file = (
        [(at.rule, at.line) for at in validate([path], lint=True, given=given).findings]
        for path, given in ((Path("<stdin>"), {Path("<stdin>"): OURS.read_bytes()}), (Path("stdin.yaml"), {}))
    )
    assert piped == file
    assert ("PV-RUN-007", 37) in piped


def test_a_closed_standard_input_is_one_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["validate", "-"]) == 2
    assert capsys.readouterr().err == "pv: <stdin>: cannot be read\n"


def test_a_number_of_processes_below_one_is_refused(capsys):
    assert main(["validate", "--jobs", "0", str(GOOD)]) == 2
    assert capsys.readouterr().err == "pv: --jobs must be at least 1, not 0\n"


def test_the_number_of_processes_reaches_who_starts_them(monkeypatch, capsys):
    asked = []

    def measure(files, given, *, lint, jobs, cache, imports):
        asked.append(jobs)
        return iter([Measured(file, None, "was not looked at") for file in files])

    monkeypatch.setattr(module, "measure", measure)
    assert main(["validate", "--no-cache", "--jobs", "7", str(GOOD)]) == 2
    assert main(["validate", "--no-cache", str(GOOD)]) == 2
    assert asked[0] == 7
    assert asked[1] >= 1
    assert "was not looked at" in capsys.readouterr().out


def test_files_and_folders_and_patterns_are_measured_each_once_and_counted(tmp_path):
    for name in ("a.yaml", "s/b.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(GOOD.read_bytes())
    verdict = validate([tmp_path, tmp_path / "s" / "b.yaml", tmp_path / "**" / "*.yaml", tmp_path / "none"])
    assert [file.path.name for file in verdict.checked] == ["a.yaml", "b.yaml"]
    assert verdict.declined == ((str(tmp_path / "none"), "cannot be read: No such file or directory"),)


def test_nothing_heavy_is_loaded_to_measure_one_contract():
    script = (
        "import sys\nfrom pv.cli import main\n"
        f"assert main(['validate', '--no-cache', '--quiet', {str(GOOD)!r}]) == 0\n"
        "print(sorted({'numpy', 'numba', 'rich', 'pytest', 'jsonschema', 'multiprocessing'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
