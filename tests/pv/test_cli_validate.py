import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pv import report
from pv.cli import main
from pv.validate import validate

CONTRACTS = Path(__file__).parents[1] / "contracts"
GOOD = sorted((CONTRACTS / "good").glob("*.yaml"))
ALONE = CONTRACTS / "good" / "kernel-of-the-first-generation.yaml"  # names nothing outside of itself
BAD = CONTRACTS / "bad"


def run(capsys, *args):
    code = main(["validate", *map(str, args)])
    out, err = capsys.readouterr()
    assert err == ""
    return code, out.splitlines()


def verdict(capsys, *args):
    code = main(["validate", "--json", *map(str, args)])
    return code, json.loads(capsys.readouterr().out)


def test_a_good_contract_is_accepted_and_its_denominator_stated(capsys):
    code, lines = run(capsys, CONTRACTS / "good" / "bound-test.yaml")
    assert code == 0
    assert lines == [
        "accept: 1 file: 1 accepted, 0 rejected; 0 errors, 0 warnings; 3 tests declared, 2 bound, "
        "1 unbound (nothing runs them)"
    ]


def test_a_bad_contract_is_rejected_with_place_rule_and_hint(capsys):
    path = BAD / "pv-link-001-no-such-equation.yaml"
    code, lines = run(capsys, path)
    assert code == 1
    assert lines == [
        f"{path}:22:3: error PV-LINK-001: FALSIFY-PREFIX-001: there is no equation 'length_prefx'",
        "  22 |   binds_to: length_prefx",
        "     |   ^^^^^^^^^^^^^^^^^^^^^^",
        "  hint: did you mean 'length_prefix'?",
        "reject: 1 file: 0 accepted, 1 rejected; 1 error, 0 warnings; 1 test declared, 1 bound",
    ]


def test_warnings_alone_reject_nothing(capsys):
    code, lines = run(capsys, BAD / "schema-009-no-if-fails.yaml")
    assert code == 0
    assert lines[-1].startswith("accept: 1 file: 1 accepted, 0 rejected; 0 errors, 1 warning; ")


def test_json_has_its_documented_shape(capsys):
    path = BAD / "schema-012-no-kani-bound.yaml"
    code, content = verdict(capsys, path, BAD / "pv-yaml-001-tab.yaml", CONTRACTS / "missing.yaml")
    assert code == 1
    assert {key: value for key, value in content.items() if key != "findings"} == {
        "schema": "pv-validate/1",
        "verdict": "reject",
        "files": 2,
        "accepted": 1,
        "rejected": 1,
        "errors": 1,
        "warnings": 1,
        "notes": 0,
        "strict": False,
        "tests": {"declared": 1, "bound": 1},
        "suppressed": [],
        "known": [],
        "settings": {},
        "declined": [{"path": str(CONTRACTS / "missing.yaml"), "reason": "cannot be read: No such file or directory"}],
        "skipped": [],
    }
    assert content["findings"][0] == {
        "rule": "SCHEMA-012",
        "severity": "warning",
        "path": str(path),
        "line": 18,
        "column": 3,
        "message": "KANI-1 states no bound",
        "hint": "",
        "end_column": 0,
    }
    assert [finding["rule"] for finding in content["findings"]] == ["SCHEMA-012", "PV-YAML-001"]


def test_text_and_json_agree_about_every_file(capsys):
    for path in (*GOOD, *sorted(BAD.iterdir())):
        code, lines = run(capsys, path, "--notes")
        again, content = verdict(capsys, path)
        assert code == again == {"accept": 0, "reject": 1}[content["verdict"]]
        assert len([line for line in lines[:-1] if not line.startswith("  ")]) == len(content["findings"])
        assert lines[-1].startswith(f"{content['verdict']}: ")


@pytest.mark.parametrize("flag", ["--notes", "--quiet"])
def test_flags_about_text_are_refused_where_they_would_do_nothing(capsys, flag):
    assert main(["validate", str(ALONE), "--json", flag]) == 2
    assert capsys.readouterr() == ("", "pv: --notes and --quiet are about text: json always holds all findings\n")


def test_settings_are_those_of_the_project_around_the_current_folder(capsys, tmp_path, monkeypatch):
    path = BAD / "schema-012-no-kani-bound.yaml"
    table = '[tool.pv.severity]\nSCHEMA-013 = "error"\n[[tool.pv.suppress]]\nrule = "SCHEMA-012"\npath = "../**"\n'
    (tmp_path / "pyproject.toml").write_text(table + 'reason = "r"\nuntil = 9999-12-31\n')
    monkeypatch.chdir(tmp_path)
    code, lines = run(capsys, path)
    assert (code, len(lines)) == (0, 1)
    assert lines[0].endswith("; 1 finding suppressed; 1 rule changed by settings (SCHEMA-013 error)")
    (tmp_path / "pyproject.toml").write_text('[tool.pv.severity]\nSCHEMA-999 = "off"\n')
    assert main(["validate", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pv: {tmp_path}/pyproject.toml: [tool.pv.severity]: there is no rule 'SCHEMA-999'\n  hint: ")


def test_a_folder_is_searched_in_depth_and_in_order(capsys, tmp_path):
    for name in (
        "b/z.yml",
        "b/a.yaml",
        "a.yaml",
        ".hidden/c.yaml",
        ".d.yaml",
        "e.json",
        "binding.yaml",
        "x-playbook.yaml",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("metadata: {}")
    code, content = verdict(capsys, tmp_path)
    assert code == 1
    errors = [finding["path"] for finding in content["findings"] if finding["rule"] == "SCHEMA-001"]
    assert errors == [str(tmp_path / name) for name in ("a.yaml", "b/a.yaml", "b/z.yml")]
    skipped = ("binding.yaml", "x-playbook.yaml", ".hidden", ".d.yaml")
    assert content["skipped"] == [str(tmp_path / name) for name in skipped]


def test_a_file_that_is_named_is_measured_whatever_it_is_called(capsys, tmp_path):
    path = tmp_path / "binding.yaml"
    path.write_text("bindings: []")
    code, content = verdict(capsys, path)
    assert (code, content["files"], content["skipped"]) == (1, 1, [])


def test_a_file_that_is_reached_twice_is_measured_once(capsys, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(ALONE.read_bytes())
    link = tmp_path / "y.yaml"
    link.symlink_to(path)
    code, content = verdict(capsys, path, tmp_path, link)
    assert (code, content["files"]) == (0, 1)


def test_a_contract_is_read_the_same_with_windows_line_ends_and_a_byte_order_mark(capsys, tmp_path):
    (tmp_path / "pyproject.toml").write_bytes((CONTRACTS / "pyproject.toml").read_bytes())
    (tmp_path / "falsifiers").symlink_to(CONTRACTS / "falsifiers")
    (tmp_path / "models").symlink_to(CONTRACTS / "models")
    (tmp_path / "good").symlink_to(CONTRACTS / "good")
    for case in (
        BAD / "pv-run-002-shell-line.yaml",
        BAD / "schema-020-key-twice.yaml",
        CONTRACTS / "good" / "yaml-1.2.yaml",
    ):
        path = tmp_path / case.name
        path.write_bytes(b"\xef\xbb\xbf" + case.read_bytes().replace(b"\n", b"\r\n"))
        (code, there), (same, here) = verdict(capsys, case), verdict(capsys, path)
        assert code == same
        for finding in (*there["findings"], *here["findings"]):
            del finding["path"]
        assert there == here


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "missing.yaml", "cannot be read: No such file or directory"),
        (lambda folder: folder, "holds no contracts: no *.yaml or *.yml"),
        (
            lambda folder: (folder / "empty.yaml", (folder / "empty.yaml").write_bytes(b""))[0],
            "holds no contract: it is empty",
        ),
        (
            lambda folder: (folder / "x.yaml", (folder / "x.yaml").symlink_to("x.yaml"))[0],
            "cannot be read: Too many levels",
        ),
    ],
)
def test_what_cannot_be_measured_is_declined_and_never_green(capsys, tmp_path, make, reason):
    path = make(tmp_path)
    code, lines = run(capsys, path)
    assert code == 2
    assert lines[0].startswith(f"{path}: not measured: {reason}")
    assert lines[1] == (
        "decline: 0 files: 0 accepted, 0 rejected; 0 errors, 0 warnings; 0 tests declared, 0 bound; 1 not measured"
    )
    code, lines = run(capsys, path, GOOD[0])
    assert code == 2
    assert lines[-1].startswith("decline: 1 file: 1 accepted")


def test_no_file_at_all_is_declined_where_the_project_has_no_folder_of_contracts(capsys, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\n")
    monkeypatch.chdir(tmp_path)
    code, lines = run(capsys)
    assert code == 2
    assert (
        lines[0] == "not measured: no file or folder is given (hint: name some; by default it is the folder contracts)"
    )


@pytest.mark.parametrize(("setting", "name"), [("", "contracts"), ('contracts = "promises"\n', "promises")])
@pytest.mark.parametrize("command", ["validate", "lint"])
def test_without_paths_the_contracts_of_the_project_are_measured(capsys, tmp_path, monkeypatch, command, setting, name):
    (tmp_path / "pyproject.toml").write_text(f"[tool.pv]\n{setting}")
    for folder in (name, "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x-v1.yaml").write_text("equations: {}\n")
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 1
    bare = capsys.readouterr()
    assert bare.out.startswith(f"{name}/x-v1.yaml:")
    assert "reject: 1 file" in bare.out
    assert main([command, name]) == 1
    assert capsys.readouterr() == bare
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main([command]) == 1
    assert capsys.readouterr().out.startswith(f"{tmp_path / name}/x-v1.yaml:")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_declined(capsys, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(GOOD[0].read_bytes())
    path.chmod(0)
    code, lines = run(capsys, path)
    assert code == 2
    assert "cannot be read: Permission denied" in lines[0]


def test_a_folder_that_cannot_be_searched_is_declined(capsys, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "x.yaml").write_bytes(ALONE.read_bytes())
    scandir = os.scandir

    def locked(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    code, lines = run(capsys, tmp_path)
    assert code == 2
    assert lines[0] == f"{tmp_path / 'locked'}: not measured: cannot be read: Permission denied"


def test_a_contract_cannot_steer_the_terminal(capsys, tmp_path):
    path = tmp_path / "x\x1b[31m\n.yaml"
    path.write_text('metadata: {kind: "\\e[2J\\u202e", version: 1}\nfalsification_tests: [{id: "\\e[2J\\n"}]')
    code, lines = run(capsys, path)
    assert code == 1
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[2J\\n predicts nothing" in line for line in lines)


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "the following arguments are required: COMMAND" in capsys.readouterr().err


# -- damage -----------------------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_end_in_a_verdict(data, tmp_path):
    original = data.draw(st.sampled_from(GOOD)).read_bytes()
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    assert_measured(tmp_path / "x.yaml", bytes(damaged))


@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{},#&*!|>'\"%@\n ?~1.e\t", max_size=80).map(str.encode))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_end_in_a_verdict(tmp_path, content):
    assert_measured(tmp_path / "x.yaml", content)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_dropped_doubled_swapped_and_moved_end_in_a_verdict(seed, tmp_path):
    rng = random.Random(seed)
    lines = rng.choice(GOOD).read_bytes().splitlines(keepends=True)
    for _ in range(rng.randint(1, 5)):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(other, lines[at])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = b"  " + lines[at]
            case 4:
                lines[at] = lines[at][rng.randrange(len(lines[at])) :]
    assert_measured(tmp_path / "x.yaml", b"".join(lines))


def assert_measured(path, content):
    path.write_bytes(content)
    result = validate([path])
    assert result.code in (0, 1, 2)
    assert len(result.checked) + len(result.declined) == 1
    lines = content.count(b"\n") + content.count(b"\r") + 1
    for finding in result.findings:
        assert 1 <= finding.line <= lines + 1  # a parser may notice the end behind the last line
        assert finding.column >= 1
    report.as_text(result).encode()
    json.loads(report.as_json(result))


# -- the installed command --------------------------------------------------------------------------------------------

PV = Path(sys.executable).parent / "pv"


def shell(*args, **environment):
    return subprocess.run(
        [PV, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_the_command_says_its_version():
    from importlib.metadata import version

    done = shell("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pv {version('pv-contracts')}\n", "")


def test_the_command_exits_with_the_verdict():
    assert shell("validate", GOOD[0]).returncode == 0
    assert shell("validate", BAD).returncode == 1
    assert shell("validate", "missing.yaml").returncode == 2
    assert shell("validate", "--no-such-flag").returncode == 2


def test_the_command_writes_what_a_narrow_terminal_can_show(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("metadata: {kind: käse}", encoding="utf-8")
    done = shell("validate", path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, "")
    assert "'k\\xe4se' is not known" in done.stdout


def test_a_reader_that_stops_early_gets_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)  # before anything is written, so that no buffer of the pipe can hide it
    done = subprocess.run(
        [PV, "validate", BAD, "--json"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141  # as of a process that SIGPIPE ended, and not 2, which would mean: nothing measured


def test_output_that_cannot_be_written_is_said_so_and_is_no_verdict():
    with open("/dev/full", "w") as full:
        done = subprocess.run([PV, "validate", GOOD[0]], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "pv: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("command", [["validate", str(GOOD[0])], ["--version"], ["explain"]])
def test_a_closed_output_is_said_so_and_is_no_verdict(command):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", PV, *command], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "pv: the output cannot be written: it is closed\n")


def test_a_closed_standard_error_changes_neither_verdict_nor_output(tmp_path):
    (tmp_path / "none").mkdir()
    command = [PV, "validate", "--json", str(GOOD[0]), str(tmp_path / "none")]
    opened = subprocess.run(command, capture_output=True, text=True, check=False)
    closed = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stdout) == (opened.returncode, opened.stdout)
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", PV, "explain", "zzz"], capture_output=True, check=False
    )
    assert (closed.returncode, closed.stdout) == (2, b"")


def test_a_folder_that_is_gone_is_said_so(tmp_path):
    script = 'mkdir here && cd here && rmdir ../here && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", PV, "validate"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "pv: the current folder is gone\n")


HEAVY = {
    "numpy",
    "numba",
    "torch",
    "rich",
    "jsonschema",
    "pytest",
    "jinja2",
    "tokenizers",
    "rfc8785",
    "difflib",
    "email",
}


@pytest.mark.parametrize(
    ("args", "allowed"), [(["--version"], {"email"}), (["validate", str(GOOD[0])], set())], ids=["version", "validate"]
)
def test_the_command_loads_nothing_that_it_does_not_need(args, allowed):
    code = f"import sys\nfrom pv.cli import main\ntry: main({args!r})\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert loaded & HEAVY <= allowed
    assert "yaml" in loaded or args == ["--version"]


def test_work_grows_with_the_length_of_a_contract_and_no_faster(tmp_path):
    def calls(tests):
        path = tmp_path / f"{tests}.yaml"
        head = "metadata: {kind: schema, version: 1.0.0, description: d, references: [r]}\nfalsification_tests:\n"
        test = "- {id: A-%d, prediction: p, if_fails: f, binds_to: x, falsifiers: {algorithm: 'a:b'}, mutants: 3}\n"
        path.write_text(head + "".join(test % number for number in range(tests)))
        count = 0

        def counting(frame, event, argument):
            nonlocal count
            count += 1

        sys.setprofile(counting)
        try:
            findings = len(validate([path]).findings)
        finally:
            sys.setprofile(None)
        assert findings >= 3 * tests
        return count

    calls(10)
    assert calls(800) < 4.5 * calls(200)
