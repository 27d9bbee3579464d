import json
import os
import sys
import time
from pathlib import Path

import pytest

from pv import importing
from pv.cli import main
from pv.config import find
from pv.findings import ERROR, NOTE, WARNING
from pv.validate import validate
from tests.pv.rules.test_project import CHECKS, CONTRACT

MADE = "from pv.trial import mutant\n\n\ndef __getattr__(name):\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "checks.py").write_text(CHECKS)
    (tmp_path / "x.yaml").write_text(CONTRACT)
    return tmp_path


def told(root, source, *, imports=True):
    """What the rules say about falsifiers and mutants whose module has a source, and how many tests are bound."""
    (root / "mine" / "checks.py").write_text(source)
    verdict = validate([root / "x.yaml"], lint=True, imports=imports)
    found = [at for at in verdict.findings if at.rule in ("PV-RUN-007", "PV-RUN-008", "PV-RUN-009", "PV-RUN-011")]
    return [(at.rule, at.severity, at.line, at.message) for at in found], verdict.bound


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("import no_such_package", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise SystemExit('enough')", "cannot be imported: SystemExit: enough"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("import os; os._exit(7)", "cannot be imported: SystemExit: 7"),
        ("import ctypes; ctypes.CDLL(None)._exit(0)", "ends its process with exit code 0 when it is imported"),
        (
            "import ctypes, sys; print('a\\nno device', file=sys.stderr, flush=True); ctypes.CDLL(None)._exit(3)",
            "ends its process with exit code 3 when it is imported: no device",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ends its process by signal SIGSEGV when it is"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_finding_on_the_line_that_names_it(root, line, what):
    found, bound = told(root, f"{CHECKS}{line}\n")
    assert [at[:3] for at in found] == [("PV-RUN-011", ERROR, 7)]
    assert found[0][3].startswith(f"A: mine.checks {what}")
    assert bound == 0
    assert told(root, f"{CHECKS}{line}\n", imports=False) == ([], 1)


def test_an_import_that_does_not_come_to_an_end_is_ended_with_what_it_has_started(root, monkeypatch):
    monkeypatch.setattr(importing, "SECONDS", 8)
    source = f"{CHECKS}import subprocess, sys\n"
    source += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    source += "open('pid', 'w').write(str(child.pid))\nchild.wait()\n"
    begun = time.monotonic()
    found, bound = told(root, source)
    assert time.monotonic() - begun < 45
    assert found == [("PV-RUN-011", ERROR, 7, "A: mine.checks is not imported within 8 seconds")]
    assert bound == 0
    pid = int((root / "pid").read_text())
    for _ in range(50):  # who adopts it takes a moment to look after it
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail("its child is running still")


def test_a_thread_that_a_module_leaves_behind_is_not_waited_for(root, monkeypatch):
    monkeypatch.setattr(importing, "SECONDS", 20)
    source = f"{CHECKS}import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nprint('{{')\n"
    begun = time.monotonic()
    assert told(root, source) == ([], 1)
    assert time.monotonic() - begun < 19


@pytest.mark.parametrize(
    ("made", "rule", "what"),
    [
        ("    return lambda trial: None", "PV-RUN-011", "mine.checks:wrong is no mutant, once it is imported"),
        ("    return 5", "PV-RUN-011", "mine.checks:finds is no falsifier but a value of type int"),
        ("    return type", "PV-RUN-011", "mine.checks:finds is no falsifier but a class"),
        ("    return lambda: None", "PV-RUN-011", "finds is no falsifier but a function that cannot be called with a"),
        ("    def f(trial): yield\n    return f", "PV-RUN-011", "finds is no falsifier but a function whose body does"),
        ("    raise AttributeError(name)", "PV-RUN-011", "no function 'finds' in mine.checks, once it is imported"),
        ("    raise KeyError(name)", "PV-RUN-011", "finds is no falsifier but a name that raises KeyError: 'finds'"),
    ],
)
def test_what_a_name_turns_out_to_be_is_told(root, made, rule, what):
    (*_, last), _ = told(root, f"{MADE}{made}\n")
    first = told(root, f"{MADE}{made}\n")[0]
    assert any(what in at[3] and at[0] == rule for at in first), first
    assert last[1] == ERROR
    assert {at[0] for at in told(root, f"{MADE}{made}\n", imports=False)[0]} == {"PV-RUN-009"}


def test_names_that_something_makes_are_accepted_once_they_are_imported(root):
    source = CHECKS.replace("def finds(trial): ...", "finds = [lambda trial: None][0]")
    source += "names = {'wrong': wrong}\nglobals().update(names)\n"
    assert told(root, source) == ([], 1)
    without, bound = told(root, source, imports=False)
    assert ({at[:2] for at in without}, bound) == ({("PV-RUN-009", NOTE)}, 0)


def test_a_function_of_another_package_is_no_falsifier(root):
    found, bound = told(root, CHECKS.replace("def finds(trial): ...", "from os.path import join\nfinds = [join][0]"))
    what = "A: mine.checks:finds is no falsifier but a function of posixpath, which is not first-party"
    assert (found, bound) == ([("PV-RUN-011", ERROR, 7, what)], 0)
    found, bound = told(root, CHECKS.replace("def finds(trial): ...", "from os.path import join as finds"))
    assert ([at[:3] for at in found], bound) == ([("PV-RUN-007", ERROR, 7)], 0)


def test_where_there_is_no_project_nothing_is_imported_and_that_is_a_warning(root):
    (root / "pyproject.toml").unlink()
    (root / "x.yaml").write_text(CONTRACT.replace("mine.checks", "no.such.module"))
    for imports, severity in ((False, NOTE), (True, WARNING)):
        verdict = validate([root / "x.yaml"], lint=True, imports=imports)
        assert [at.severity for at in verdict.findings if at.rule == "PV-RUN-009"] == [severity]
        assert verdict.bound == 0


def test_the_package_that_was_taken_instead_is_named(root):
    (root / "json").mkdir()
    (root / "json" / "checks.py").write_text(CHECKS)
    failure = importing.imported("json.checks", ["finds"], find(root)).failure
    assert f"(json was taken from {json.__file__}; touch {root}/json/__init__.py)" in failure
    (root / "x.yaml").write_text(CONTRACT.replace("mine.checks", "json.checks"))
    verdict = validate([root / "x.yaml"], lint=True, imports=True)
    (found,) = [at for at in verdict.findings if at.rule.startswith("PV-RUN-0")]
    assert (found.rule, verdict.bound) == ("PV-RUN-007", 0)  # the text shows it already
    assert found.message.endswith(f"so Python takes json from {json.__file__}")


def test_what_the_text_shows_already_is_told_once(root):
    found, _ = told(root, CHECKS.replace("finds", "other"))
    assert [at[0] for at in found] == ["PV-RUN-007"]
    (root / "mine" / "checks.py").unlink()
    verdict = validate([root / "x.yaml"], lint=True, imports=True)
    assert [at.rule for at in verdict.findings if at.rule.startswith("PV-RUN-0")] == ["PV-RUN-007"]


def test_each_module_is_imported_once_in_a_process_of_its_own(root):
    source = f"{CHECKS}open('seen', 'a').write('x')\n"
    (root / "y.yaml").write_text(CONTRACT.replace("id: A", "id: B"))
    (root / "mine" / "checks.py").write_text(source)
    verdict = validate([root / "x.yaml", root / "y.yaml"], lint=True, imports=True)
    assert verdict.bound == 2
    assert (root / "seen").read_text() == "x"
    assert "mine" not in sys.modules
    validate([root / "x.yaml"], lint=True, imports=True)  # what was there before a run may have changed
    assert (root / "seen").read_text() == "xx"


@pytest.mark.parametrize("command", ["validate", "lint"])
def test_without_the_flag_nothing_is_imported(root, command, capsys):
    (root / "mine" / "checks.py").write_text(f"{CHECKS}open('seen', 'a').write('x')\n")
    main([command, str(root / "x.yaml")])
    assert not (root / "seen").exists()
    assert not os.path.exists("seen")


def test_a_suppression_is_idle_only_in_a_run_that_imports(root, monkeypatch, capsys):
    entry = '[[tool.pv.suppress]]\nrule = "PV-RUN-011"\npath = "x.yaml"\nreason = "r"\nuntil = 2999-01-01\n'
    (root / "pyproject.toml").write_text("[tool.pv]\n" + entry)
    monkeypatch.chdir(root)
    stale = {}
    for flag in ((), ("--import",)):
        main(["lint", "x.yaml", "--json", *flag])
        stale[flag] = [at["rule"] for at in json.loads(capsys.readouterr().out)["findings"] if "SUP" in at["rule"]]
    assert stale == {(): [], ("--import",): ["PV-SUP-001"]}
