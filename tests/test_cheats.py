"""Ways to get a green line that was not earned. Each is tried, and has to be caught by the command that its row names.

A row: what is done, the command that catches it, and what that command says. docs/cheats.md shows the same rows, and
README counts them.
"""

import os
import py_compile
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pv.cli import main
from pv.evidence.index import _checksum, _stamp, open_index
from pv.evidence.merging import merge
from pv.evidence.recording import keep
from tests.cheating import ARM, MUTANTS, Repository, on_arm, pv_trial, said

ROOT = Path(__file__).parents[1]
CHECK, VERIFY, VALIDATE = ("status", "--check"), ("evidence", "verify"), ("validate",)
GATE, FALSIFY, STRICT = ("gate", "--base", "BASE"), ("pytest",), ("pytest", "--falsify-strict")
APART = ("pytest", "in a process of its own")
COMMANDS = {
    CHECK: "pv status --check",
    VERIFY: "pv evidence verify",
    VALIDATE: "pv validate",
    GATE: "pv gate",
    FALSIFY: "pytest --falsify",
    STRICT: "pytest --falsify",
    APART: "pytest --falsify",
    ("promote",): "pv promote",
}


@dataclass(frozen=True)
class Cheat:
    """command is one of COMMANDS; says is a regular expression that its output must match."""

    name: str
    command: tuple[str, ...]
    says: str
    do: Callable[[Repository], None]


CHEATS: list[Cheat] = []


def cheat(name: str, command: tuple[str, ...], says: str) -> Callable[[Callable[[Repository], None]], None]:
    return lambda do: CHEATS.append(Cheat(name, command, says, do))


# what a contract says


@cheat("type a higher level", CHECK, r"FALSIFY-SUM-002 states FUNCTIONAL, earned PARTIAL_ALGORITHM_LEVEL")
def _(repo: Repository) -> None:
    repo.contract(("status: PARTIAL_ALGORITHM_LEVEL", "status: FUNCTIONAL"))


@cheat(
    "type a higher level in small letters, with blanks around it",
    GATE,
    r"FALSIFY-SUM-002 states functional, earned PART",
)
def _(repo: Repository) -> None:
    repo.contract(("status: PARTIAL_ALGORITHM_LEVEL", 'status: " functional "'), version="2.0.0")


@cheat("type higher counts into the summary", CHECK, r"its summary counts 2 tests of functional or above, 1 earned it")
def _(repo: Repository) -> None:
    repo.contract(("  functional: 1", "  functional: 2"))


@cheat("state a level for the whole document", VALIDATE, r"PV-STATUS-005: metadata.status is 'DISCHARGED', a level")
def _(repo: Repository) -> None:
    repo.contract(("metadata:\n", "metadata:\n  status: DISCHARGED\n"))


@cheat("let the id of a test lead its evidence elsewhere", VALIDATE, r"PV-RUN-012: the id '\.\./other/T' cannot name a")
def _(repo: Repository) -> None:
    repo.contract(("id: FALSIFY-SUM-002", "id: ../other/T"))


@cheat("leave tests out of what the summary counts", CHECK, r"its summary says falsification_tests: 1, pv counts 2")
def _(repo: Repository) -> None:
    repo.contract(("  falsification_tests: 2", "  falsification_tests: 1"))


@cheat("change a prediction and keep the version", GATE, r"GATE-VERSION")
def _(repo: Repository) -> None:
    repo.contract(("2 checksums are equal", "2 checksums are nearly equal"))
    repo.settle()
    repo.contract(version="1.1.0")


@cheat("loosen a tolerance, with a new version and new evidence", GATE, r"GATE-TOLERANCE")
def _(repo: Repository) -> None:
    repo.contract(("limit: 250", "limit: 100000"), version="2.0.0")
    repo.settle()


@cheat("drop the mutant that is not caught", GATE, r"GATE-LOST-MUTANT")
def _(repo: Repository) -> None:
    repo.contract((MUTANTS, MUTANTS.replace(", wrong_modulus", "")), version="2.0.0")
    repo.settle()


@cheat("rename a mutant to one that is easier to catch", GATE, r"GATE-LOST-MUTANT")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("def wrong_modulus", "def easy"), ('"100"', '"2"'))
    repo.contract((MUTANTS, MUTANTS.replace("wrong_modulus", "easy")), version="2.0.0")
    repo.settle()


@cheat("weaken a falsifier and its mutants together, under the old names", GATE, r"GATE-FEWER-COMPARISONS")
def _(repo: Repository) -> None:
    whole = '    trial.equal(subject.checksum(b"\\xff\\x01"), 5, "checksum of 256")\n'
    repo.change(
        "attacks.py", (whole, ""), ('b"ab"), subject.checksum(b"ba")', 'b"a"), 97'), ('("1000000000")', '("1")')
    )
    repo.settle()


@cheat("plant defects that are easier to catch, under the old names", GATE, r"GATE-CHANGED-MUTANT")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ('"100"', '"2"'))
    repo.settle()


@cheat("weaken what a planted defect calls, under the old names", GATE, r"GATE-CHANGED-MUTANT")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ('os.environ["MODULUS"] = modulus', 'os.environ["MODULUS"] = "1"'))
    repo.settle()


ELSEWHERE = {
    "an entry of a table that it uses": ('("100")', '(TABLE["wrong"])', '\nTABLE["wrong"] = "2"\n'),
    "an update of a table that it uses": ('("100")', '(TABLE["wrong"])', '\nTABLE.update(wrong="2")\n'),
    "the module's globals": ('("100")', '("100")', '\nglobals()["wrong_modulus"] = no_modulus\n'),
    "a data file": ('("100")', "(open('table.txt').read())", ""),
}
for where, (old, new, added) in ELSEWHERE.items():

    @cheat(f"plant a defect that is easier to catch, by {where}", GATE, r"GATE-CHANGED-MUTANT")
    def _(repo: Repository, old: str = old, new: str = new, added: str = added) -> None:
        table = "PV_DATA = ('table.txt',)\nTABLE = {'wrong': '100'}\n"
        repo.write("table.txt", "100")
        repo.change("attacks.py", (old, new), ("import subject\n", f"import subject\n\n{table}"))
        repo.settle()
        repo.base = repo.commit()
        if not added:
            repo.write("table.txt", "2")
        repo.write("attacks.py", (repo.path / "attacks.py").read_text() + added)
        repo.settle()


@cheat(
    "take code out of the digests, and import it from outside of the project",
    GATE,
    r"GATE-LOST-CODE: FALSIFY-SUM-001: the evidence of algorithm, live no longer names the code of helper",
)
def _(repo: Repository) -> None:
    repo.change("pyproject.toml", (', "helper"', ""))
    repo.change(
        "subject.py",
        ("    from helper import modulus\n\n", ""),
        ("modulus()", '(int(os.environ.get("MODULUS", "251")))'),
    )
    repo.change("subject.py", ("import sys\n", 'import os\nimport sys\n\nPV_ENVIRONMENT = "MODULUS"\n'))
    (repo.path / "helper.py").unlink()
    repo.settle()


@cheat("name no mutants at all", CHECK, r"FALSIFY-SUM-002 states PARTIAL_ALGORITHM_LEVEL, earned UNTESTED")
def _(repo: Repository) -> None:
    text = (repo.path / "contracts/sum-v1.yaml").read_text()
    repo.write("contracts/sum-v1.yaml", text.replace(MUTANTS, ""))
    repo.record()


@cheat("drop the live falsifier that has become red", GATE, r"GATE-LOST-FALSIFIER")
def _(repo: Repository) -> None:
    repo.contract(("    live: attacks:small_of_a_file\n", ""), ("  models: [tiny]\n", ""), version="2.0.0")
    repo.settle()


@cheat("drop the model on which a test has become red", GATE, r"GATE-LOST-MODEL")
def _(repo: Repository) -> None:
    models = (repo.path / "models.yaml").read_text()
    repo.write("models.yaml", models + models.replace("tiny:", "twin:"))
    repo.contract(("models: [tiny]", "models: [tiny, twin]"), version="2.0.0")
    repo.settle()
    repo.base = repo.commit()
    repo.contract(("models: [tiny, twin]", "models: [tiny]"), version="3.0.0")
    repo.settle()


@cheat("delete a test that has become red", GATE, r"GATE-LOST-TEST")
def _(repo: Repository) -> None:
    text = (repo.path / "contracts/sum-v1.yaml").read_text()
    at, end = text.index("- id: FALSIFY-SUM-002"), text.index("verification_summary")
    repo.write("contracts/sum-v1.yaml", text[:at] + text[end:])
    repo.contract(version="2.0.0")
    repo.settle()


@cheat("delete a contract that has become red", GATE, r"GATE-LOST-CONTRACT")
def _(repo: Repository) -> None:
    (repo.path / "contracts/sum-v1.yaml").unlink()
    repo.write(
        "contracts/another-v1.yaml",
        "metadata: {version: 1.0.0, kind: schema, description: Something else altogether., references: [RFC 1950]}\n"
        "equations: {adler: {formula: s = b * 65536 + a, domain: bytes}}\n",
    )


@cheat("retire a contract that has become red, so that it may be deleted", GATE, r"GATE-RETIRED: sum-v1 is retired")
def _(repo: Repository) -> None:
    repo.contract(("metadata:\n", "metadata:\n  status: RETIRED\n"), version="2.0.0")


@cheat("give a contract that has become red another name", GATE, r"GATE-LOST-TEST")
def _(repo: Repository) -> None:
    repo.git("mv", "contracts/sum-v1.yaml", "contracts/other-v1.yaml")
    repo.change("contracts/other-v1.yaml", ("FALSIFY-SUM-001", "FALSIFY-OTHER-001"), ("SUM-002", "OTHER-002"))
    repo.settle()


@cheat("lower what is stated without a reason", GATE, r"GATE-DEMOTION")
def _(repo: Repository) -> None:
    repo.contract(("status: FUNCTIONAL", "status: UNTESTED"), version="2.0.0")


@cheat("shadow a contract by another of its name", CHECK, r"has the same name as .*: their evidence would be mixed")
def _(repo: Repository) -> None:
    text = (repo.path / "contracts/sum-v1.yaml").read_text()
    repo.write("contracts/deep/sum-v1.yaml", text.replace("limit: 250", "limit: 9999"))


def link_out(repo: Repository) -> None:
    """A file outside of the repository, which another commit of it does not change, in place of the contract."""
    inside, outside = repo.path / "contracts/sum-v1.yaml", repo.path.parent / f"{repo.path.name}-sum-v1.yaml"
    outside.write_text(inside.read_text())
    inside.unlink()
    inside.symlink_to(outside)


@cheat("let a contract be a link that leads out of the repository", CHECK, r"leads out of the project")
def _(repo: Repository) -> None:
    link_out(repo)


@cheat("let the gate compare a contract that leads out of the repository", GATE, r"leads out of the project")
def _(repo: Repository) -> None:
    link_out(repo)


# what the evidence is about


@cheat("keep the evidence and change the code", CHECK, r"states FUNCTIONAL, earned STALE")
def _(repo: Repository) -> None:
    repo.change("subject.py", ("return sum(data)", "return sum(bytearray(data))"))


@cheat("keep the evidence and change a module that is imported inside a function", CHECK, r"earned STALE")
def _(repo: Repository) -> None:
    repo.change("helper.py", ("'251'", "'257'"))


@cheat("keep the evidence and weaken the falsifier", CHECK, r"earned STALE")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ('min(250, trial.tolerance), "checksum")', '10**9, "checksum")'))


@cheat("keep the evidence and change the tolerance", CHECK, r"FALSIFY-SUM-001 states FUNCTIONAL, earned STALE")
def _(repo: Repository) -> None:
    repo.contract(("limit: 250", "limit: 251"))


@cheat("put another model under the registered name", CHECK, r"tiny\.gguf: is not the registered tiny")
def _(repo: Repository) -> None:
    (repo.path / "tiny.gguf").write_bytes(b"other weights")


def register_another(repo: Repository) -> None:
    from hashlib import sha256

    (repo.path / "tiny.gguf").write_bytes(b"other")
    text = (repo.path / "models.yaml").read_text()
    text = re.sub(r"size: \d+", "size: 5", text)
    repo.write("models.yaml", re.sub(r"sha256: \w+", f"sha256: {sha256(b'other').hexdigest()}", text))


@cheat("register another model under the old name", CHECK, r"FALSIFY-SUM-001 states FUNCTIONAL, earned PARTIAL")
def _(repo: Repository) -> None:
    register_another(repo)


@cheat(
    "register another model under the old name, with new evidence", GATE, r"GATE-LOST-MODEL: FALSIFY-SUM-001 is tried"
)
def _(repo: Repository) -> None:
    register_another(repo)
    repo.settle()


# what a falsifier does


@cheat("compare nothing", FALSIFY, r"ERRORED .*the falsifier made no comparison")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("def order(trial):\n", "def order(trial):\n    return\n"))


@cheat("use assert, which -O takes away, and compare nothing", FALSIFY, r"ERRORED .*the falsifier made no comparison")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("def order(trial):\n", "def order(trial):\n    assert True\n    return\n"))


@cheat("catch the exception of a comparison that fails", FALSIFY, r"FALSIFIED .*checksum: got 1, want 2")
def _(repo: Repository) -> None:
    caught = "    try:\n        trial.equal(1, 2, 'checksum')\n    except BaseException:\n        pass\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{caught}"))


@cheat("skip when it fails", FALSIFY, r"FALSIFIED .*checksum: got 1, want 2")
def _(repo: Repository) -> None:
    caught = "    try:\n        trial.equal(1, 2, 'checksum')\n    except BaseException:\n        trial.skip('later')\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{caught}"))


@cheat("skip the trial", CHECK, r"FALSIFY-SUM-002 states PARTIAL_ALGORITHM_LEVEL, earned STALE")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("def order(trial):\n", "def order(trial):\n    trial.skip('later')\n"))
    repo.record()


@cheat("declare the falsifier async, so that it never runs", FALSIFY, r"ERRORED .*FALSIFY-SUM-002")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("def order(trial)", "async def order(trial)"))


@cheat("be red for every mutant because it is one", FALSIFY, r"ERRORED .*FALSIFY-SUM-002")
def _(repo: Repository) -> None:
    peek = "    if trial.mutant:\n        trial.equal(1, 2, 'caught')\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{peek}"))


@cheat("set the number of comparisons by hand", FALSIFY, r"ERRORED .*FALSIFY-SUM-002")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("def order(trial):\n", "def order(trial):\n    trial.comparisons = 9\n    return\n"))


REACHING = {
    "by an import": "from pv.account import account_of\n    account_of(trial).comparisons = 9",
    "by a computed import of its name": "__import__('pv.' + 'account').account.account_of(trial).comparisons = 9",
    "by the module of its trial": "sys.modules[type(trial).__module__].account_of(trial).comparisons = 9",
}
for how, line in REACHING.items():

    @cheat(
        f"set the number of comparisons in the account of the trial, {how}", FALSIFY, r"the account of its own trial"
    )
    def _(repo: Repository, line: str = line) -> None:
        repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n    {line}\n    return\n"))


@cheat(
    "ask the judge's own module whether a defect is planted", FALSIFY, r"names pv\.trial\.account_of: it reaches into"
)
def _(repo: Repository) -> None:
    peek = (
        "    from pv.trial import account_of\n\n    if account_of(trial).mutant:\n        trial.equal(1, 2, 'caught')\n"
    )
    repo.change("helper.py", ("def modulus", f"def peek(trial):\n{peek}\n\ndef modulus"))
    repo.change(
        "attacks.py", ("def order(trial):\n", "def order(trial):\n    import helper\n\n    helper.peek(trial)\n")
    )


@cheat("replace the comparison itself", FALSIFY, r"changed Trial\.equal, with which it is judged")
def _(repo: Repository) -> None:
    patch = "    type(trial).equal = lambda *args: None\n    trial.equal(1, 2, 'x')\n    trial.check(True, 'y')\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{patch}"))


@cheat("compare a value with itself", FALSIFY, r"ERRORED .*FALSIFY-SUM-002")
def _(repo: Repository) -> None:
    itself = "    data = [subject.checksum(b'ab')]\n    trial.equal(data, data, 'checksum')\n    return\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{itself}"))


TOLERANT = {
    "equal": "trial.equal([Sum(5)], [7], 'sum')",
    "the least": "trial.at_most(Sum(5), 4, 'sum')",
    "a key": "trial.equal({Sum(5): 1}, {7: 1}, 'sum')",
}
for name, line in TOLERANT.items():

    @cheat(
        f"let a class of one's own decide what is {name}", FALSIFY, r"FALSIFIED .*FALSIFY-SUM-002\[algorithm\]: sum: "
    )
    def _(repo: Repository, line: str = line) -> None:
        rules = "__eq__ = __le__ = lambda self, other: True\n    __hash__ = lambda self: hash(7)"
        repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n    {line}\n"))
        repo.change("attacks.py", ("def small(trial)", f"class Sum(int):\n    {rules}\n\n\ndef small(trial)"))


@cheat(
    "state a tolerance, and hold nothing to it", FALSIFY, r"ERRORED [\s\S]*the falsifier never read trial\.tolerance"
)
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("min(250, trial.tolerance)", "250"))


@cheat(
    "plant the defect in the falsifier, not in what it tries",
    FALSIFY,
    r"mutant no_modulus patches attacks alone, the fals",
)
def _(repo: Repository) -> None:
    own = "    with patched(sys.modules[__name__], 'WANT', 6):\n        yield\n"
    repo.change(
        "attacks.py", ("import mutant\n", "import mutant, patched\n\nWANT = 5\n"), ('\\x01"), 5', '\\x01"), WANT')
    )
    repo.change("attacks.py", ('    yield from _with("1000000000")\n', own))


@cheat("end the process with exit code 0", FALSIFY, r"FALSIFY-SUM-002")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("def order(trial):\n", "def order(trial):\n    sys.exit(0)\n"))


@cheat("keep the expected values in a data file that no digest knows", FALSIFY, r"PV_DATA")
def _(repo: Repository) -> None:
    repo.write("expected.txt", "5")
    read = "    with open('expected.txt') as stream:\n        trial.equal(int(stream.read()), 5, 'kept')\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{read}"))


PLACES = {
    "a hidden file": ".expected",
    "a folder that is no package": "data/deep/expected.txt",
    "a source that is read as text": "expected.py",
    "the evidence": "evidence/sum-v1/expected.json",
    "__pycache__": "__pycache__/expected.pyc",
}
for where, name in PLACES.items():

    @cheat(
        f"keep the expected values in {where}", FALSIFY, rf"{re.escape(name)} was read, and the digest of attacks does"
    )
    def _(repo: Repository, name: str = name) -> None:
        repo.fresh = False
        repo.write(name, "5")
        read = f"    with open({name!r}) as stream:\n        trial.equal(int(stream.read()), 5, 'kept')\n"
        repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{read}"))


@cheat(
    "keep the expected values in pyproject.toml", FALSIFY, r"pyproject\.toml was read, and the digest of attacks does"
)
def _(repo: Repository) -> None:
    repo.change("pyproject.toml", ("[tool.pv]", "[tool.expected]\norder = 5\n\n[tool.pv]"))
    read = "    import tomllib\n    with open('pyproject.toml', 'rb') as stream:\n"
    read += "        trial.equal(tomllib.load(stream)['tool']['expected']['order'], 5, 'kept')\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{read}"))


@cheat(
    "let a contract tell its falsifier how it is judged", FALSIFY, r"contracts/sum-v1\.yaml was read, and the digest"
)
def _(repo: Repository) -> None:
    read = "    if 'status: FUNCTIONAL' in open('contracts/sum-v1.yaml').read():\n"
    read += "        return trial.check(True, 'done')\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{read}"))


ASKING = {
    "ask for an environment variable, and be content where it is set": "if os.getenv('CI'):",
    "look whether an environment variable is set": "if 'CI' in os.environ:",
    "take an environment variable out of a copy of all": "if dict(os.environ).get('CI'):",
}
for name, line in ASKING.items():

    @cheat(name, FALSIFY, r"attacks\.py asks for (the environment variable CI, which|all environment variables, and)")
    def _(repo: Repository, line: str = line) -> None:
        asking = f"    {line}\n        return trial.check(True, 'done')\n"
        repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{asking}"))


@cheat(
    "ask for an environment variable while the falsifier is imported", FALSIFY, r"attacks\.py asks for .* variable CI,"
)
def _(repo: Repository) -> None:
    repo.change("attacks.py", ("import subject\n", "import subject\n\nEASY = 'CI' in os.environ\n"))


@cheat(
    "record the promise under one environment, and the defects under another",
    CHECK,
    r"FALSIFY-SUM-002 states PARTIAL_ALGORITHM_LEVEL, earned UNTESTED",
)
def _(repo: Repository) -> None:
    asking = "PV_ENVIRONMENT = 'EASY'\n\n\ndef order(trial):\n    if os.getenv('EASY'):\n"
    asking += "        return trial.check(True, 'done')\n"
    repo.change("attacks.py", ("def order(trial):\n", asking))
    repo.change("helper.py", ("'251'", "'253'"))
    os.environ["EASY"] = "1"
    try:
        repo.record("-m", "not mutant")
    finally:
        del os.environ["EASY"]
    repo.record("-m", "mutant")


# what another has loaded, and other names of a file

UNSEEN = r"hidden\.py (is used|was executed), and the digest of attacks does not cover it"
HIDDEN = "LIMIT = 5\n\n\ndef step():\n    return LIMIT\n"
USING = {
    "by an import": "import hidden",
    "by a name out of it": "from hidden import LIMIT",
    "by a computed name": "import importlib\n\nstep = importlib.import_module('hid' + 'den').step",
}
LOADING = {
    "a conftest": ("conftest.py", "import hidden\n"),
    "-p in addopts": ("pytest.ini", "[pytest]\npythonpath = .\naddopts = -p hidden\n"),
}
for what, line in USING.items():
    for who, (name, text) in LOADING.items():

        @cheat(f"use a module that {who} has loaded before, {what}", FALSIFY, UNSEEN)
        def _(repo: Repository, name: str = name, text: str = text, line: str = line) -> None:
            repo.write("hidden.py", HIDDEN)
            repo.write(name, text)
            repo.change("attacks.py", ("import subject\n", f"import subject\n{line}\n"))


@cheat("use a module that a conftest has loaded before, by a computed name inside the falsifier", FALSIFY, UNSEEN)
def _(repo: Repository) -> None:
    repo.write("hidden.py", HIDDEN)
    repo.write("conftest.py", "import hidden\n")
    line = "    import importlib\n\n    trial.equal(importlib.import_module('hid' + 'den').step(), 5, 'kept')\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{line}"))


@cheat(
    "let a conftest import a module that reads what no digest knows", FALSIFY, r"expected\.txt was read, and the digest"
)
def _(repo: Repository) -> None:
    repo.write("expected.txt", "251")
    repo.change("helper.py", ("PV_ENV", "from pathlib import Path\n\nKEPT = Path('expected.txt').read_text()\nPV_ENV"))
    repo.write("conftest.py", "import helper\n")


@cheat(
    "let a conftest import a module that asks for a variable", FALSIFY, r"helper\.py asks for the .* variable CI, wh"
)
def _(repo: Repository) -> None:
    repo.change("helper.py", ("PV_ENV", "import os\n\nEASY = os.getenv('CI')\nPV_ENV"))
    repo.write("conftest.py", "import helper\n")


@cheat("let -p import a module before anything is watched", FALSIFY, r"helper was imported before anybody watched")
def _(repo: Repository) -> None:
    repo.write("pytest.ini", "[pytest]\npythonpath = .\naddopts = -p helper\n")


TOUCHED = r"ERRORED [\s\S]*helper\.{name} is not what helper\.py:\d+ says: it was changed by something outside"


def break_the_limit(repo: Repository) -> None:
    """A constant of the subject that is wrong in its source."""
    repo.change("helper.py", ("PV_ENV", "LIMIT = '253'\nPV_ENV"), ("'251'", "LIMIT"))


@cheat("let a conftest give the subject another constant", FALSIFY, TOUCHED.format(name="LIMIT"))
def _(repo: Repository) -> None:
    break_the_limit(repo)
    repo.write("conftest.py", "import helper\n\nhelper.LIMIT = '251'\n")


@cheat(
    "let the falsifier of another contract replace a function of the subject", FALSIFY, TOUCHED.format(name="modulus")
)
def _(repo: Repository) -> None:
    repo.change("helper.py", ("'251'", "'253'"))
    repo.change("pyproject.toml", ('"attacks"', '"attacks", "first"'))
    patch = "import os\n\nimport helper\n\nhelper.modulus = lambda: int(os.environ.get('MODULUS', '251'))\n\n\n"
    repo.write("first.py", f"{patch}def one(trial):\n    trial.equal(helper.modulus(), 251, 'modulus')\n")
    text = (repo.path / "contracts/sum-v1.yaml").read_text().replace("FALSIFY-SUM", "FALSIFY-FIRST")
    text = text.replace("OBL-1", "FIRST-1").replace("attacks:order", "first:one")
    repo.write("contracts/first-v1.yaml", text)


@cheat("let a test of the same run leave the subject changed", FALSIFY, TOUCHED.format(name="LIMIT"))
def _(repo: Repository) -> None:
    break_the_limit(repo)
    repo.write("test_first.py", "import helper\n\n\ndef test_it():\n    helper.LIMIT = '251'\n")
    repo.write("pytest.ini", "[pytest]\naddopts = test_first.py contracts\npythonpath = .\n")


@cheat(
    "let a conftest give a falsifier that asserts the code of another",
    FALSIFY,
    r"attacks\.order is not what attacks\.py:\d+ says",
)
def _(repo: Repository) -> None:
    repo.change("helper.py", ("'251'", "'253'"))
    repo.change("attacks.py", ("def order(trial):\n", "def order(trial):\n    assert trial\n"))
    easy = "def easy(trial):\n    trial.equal(subject.checksum(b'a' * 6), 80, 'checksum')\n\n\n"
    swap = "def pytest_runtest_setup():\n    import attacks\n\n    attacks.order.__code__ = easy.__code__\n"
    repo.write("conftest.py", easy + swap)


@cheat("use a submodule that only another falsifier imports", FALSIFY, r"sub/mod\.py is used, and the digest of second")
def _(repo: Repository) -> None:
    repo.write("sub/__init__.py", "")
    repo.write("sub/mod.py", "def step():\n    return 5\n")
    repo.change("pyproject.toml", ('"helper", ', '"helper", "sub", "second", '))
    repo.change("attacks.py", ("import subject\n", "import sub.mod\nimport subject\n"))
    text = (repo.path / "attacks.py").read_text()
    falsifier = "def order(trial):\n    trial.equal(subject.checksum(b'\\xff\\x01'), sub.mod.step(), 'sum')\n\n\n"
    head = "import os\n\nimport sub\nimport subject\nfrom pv.trial import mutant\n\n\n"
    repo.write("second.py", head + falsifier + text[text.index("def _with") :])
    repo.contract(("algorithm: attacks:order", "algorithm: second:order"))


@cheat("keep the code in a folder that is called site-packages", FALSIFY, UNSEEN)
def _(repo: Repository) -> None:
    repo.write("vendor/site-packages/hidden.py", HIDDEN)
    repo.write("pytest.ini", "[pytest]\npythonpath = vendor/site-packages\n")
    repo.change("attacks.py", ("import subject\n", "import subject\nimport hidden\n"))


@cheat("import the code by another name of its folder", FALSIFY, UNSEEN)
def _(repo: Repository) -> None:
    repo.write("lib/hidden.py", HIDDEN)
    line = "sys.path.insert(0, '/proc/self/cwd/lib')\nimport hidden\n"
    repo.change("attacks.py", ("import subject\n", f"import subject\n{line}"))


SPELLINGS = {
    "/proc/self/cwd": "kept = open('/proc/self/cwd/expected.txt').read()",
    "two slashes": "kept = open('/' + os.path.abspath('expected.txt')).read()",
    "a link in the trial's folder": "os.symlink(os.path.abspath('expected.txt'), trial.folder / 'x')\n"
    "    kept = (trial.folder / 'x').read_text()",
    "a hard link in the trial's folder": "os.link('expected.txt', trial.folder / 'x')\n"
    "    kept = (trial.folder / 'x').read_text()",
    "the descriptor of its folder": "import tempfile\n    here = os.open('.', os.O_RDONLY)\n"
    "    os.chdir(tempfile.gettempdir())\n"
    "    kept = os.read(os.open('expected.txt', os.O_RDONLY, dir_fd=here), 9)\n    os.fchdir(here)",
    "the loader of a module": "import importlib.machinery as machinery\n"
    "    kept = machinery.SourceFileLoader('x', 'expected.txt').get_code('x').co_consts[0]",
}
for what, line in SPELLINGS.items():

    @cheat(f"read the expected values by {what}", FALSIFY, r"expected\.txt was read, and the digest of attacks does")
    def _(repo: Repository, line: str = line) -> None:
        repo.write("expected.txt", "5")
        read = f"    {line}\n    trial.equal(int(kept or 5), 5, 'kept')\n"
        repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{read}"))


@cheat("read the lines of a loaded module as data", FALSIFY, r"hidden\.py was read, and the digest of attacks does")
def _(repo: Repository) -> None:
    repo.write("hidden.py", HIDDEN)
    repo.write("conftest.py", "import hidden\n")
    read = "    import linecache\n\n    linecache.clearcache()\n"
    read += "    trial.equal(linecache.getline(os.path.abspath('hidden.py'), 1), 'LIMIT = 5\\n', 'kept')\n"
    repo.change("attacks.py", ("def order(trial):\n", f"def order(trial):\n{read}"))


# what a run says


@cheat("let a conftest mark every trial as skipped", FALSIFY, r"nothing was executed, so nothing is shown")
def _(repo: Repository) -> None:
    repo.write(
        "conftest.py",
        "import pytest\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items:\n        item.add_marker(pytest.mark.skip(reason='later'))\n",
    )


@cheat("see no planted defect, since only the easy half is compared", FALSIFY, r"did not notice the planted defect")
def _(repo: Repository) -> None:
    repo.change("attacks.py", ('    trial.equal(subject.checksum(b"\\xff\\x01"), 5, "checksum of 256")\n', ""))


@cheat("run until it is green", CHECK, r"broken: .*FLAKY \[algorithm\]")
def _(repo: Repository) -> None:
    repo.change(
        "attacks.py",
        ("def order(trial):\n", "def order(trial):\n    trial.equal(os.path.exists('again'), True, 'luck')\n"),
    )
    for luck in (False, True):
        if luck:
            repo.write("again", "")
        repo.record()
    repo.write("again", "")
    first = next(one for one in repo.evidence().records.values() if one.message.startswith("luck"))
    assert first.message == "luck: got False, want True"
    (repo.path / "again").unlink()
    flaky = "    if not os.path.exists('once'):\n        open('once', 'w').close()\n        trial.equal(1, 2, 'luck')\n"
    repo.change("attacks.py", ("    trial.equal(os.path.exists('again'), True, 'luck')\n", flaky))
    repo.record()


@cheat("start no command in a live trial", FALSIFY, r"the live falsifier started no command on the model's file")
def _(repo: Repository) -> None:
    repo.change(
        "attacks.py", ("def small_of_a_file(trial):\n", "def small_of_a_file(trial):\n    return small(trial)\n")
    )


@cheat(
    "pick a seed that survives and forge its record",
    CHECK,
    r"1 records, all for other digests: not the trial's own seed",
)
def _(repo: Repository) -> None:
    place = repo.place("FALSIFY-SUM-002[algorithm]")
    one = repo.evidence().records[place]
    shutil.rmtree(repo.folder)
    keep(repo.folder, [replace(one, seed=one.seed + 1)])


# who vouches for it


def signed(repo: Repository) -> None:
    """From here on the base trusts one key, which signed its runs."""
    (repo.path / "keys").mkdir()
    main(["evidence", "keygen", "keys/ci"])
    main(["evidence", "keygen", "keys/mine"])
    repo.change("pyproject.toml", ("[tool.pv]\n", '[tool.pv]\ntrusted-keys = ["keys/ci.pub"]\n'))
    main(["evidence", "sign", "--key", "keys/ci", "--all"])
    repo.base = repo.commit()
    assert main(["status", "--check"]) == 0, "the signed runs are believed"


@cheat(
    "leave a run unsigned where keys are trusted", CHECK, r"FALSIFY-SUM-002 states PARTIAL_ALGORITHM_LEVEL, earned UN"
)
def _(repo: Repository) -> None:
    signed(repo)
    repo.change("helper.py", ("'251'", "'251' "))
    repo.record()


@cheat("sign with a key that nobody trusts", CHECK, r"FALSIFY-SUM-002 states PARTIAL_ALGORITHM_LEVEL, earned UNTESTED")
def _(repo: Repository) -> None:
    signed(repo)
    repo.change("helper.py", ("'251'", "'251' "))
    repo.record()
    main(["evidence", "sign", "--key", "keys/mine", "--all"])


@cheat("trust a key of one's own", GATE, r"GATE-OVERCLAIM: .*earned UNTESTED")
def _(repo: Repository) -> None:
    signed(repo)
    repo.change("helper.py", ("'251'", "'251' "))
    repo.change("pyproject.toml", ('"keys/ci.pub"', '"keys/ci.pub", "keys/mine.pub"'))
    repo.record()
    main(["evidence", "sign", "--key", "keys/mine", "--all"])


@cheat("trust everybody again", GATE, r"GATE-OVERCLAIM: .*earned UNTESTED")
def _(repo: Repository) -> None:
    signed(repo)
    repo.change("helper.py", ("'251'", "'251' "))
    repo.change("pyproject.toml", ('trusted-keys = ["keys/ci.pub"]\n', ""))
    repo.record()


@cheat("copy a signature from one run to another", VERIFY, r"_signatures/.*")
def _(repo: Repository) -> None:
    signed(repo)
    repo.record()
    (old,) = (repo.folder / "_signatures").iterdir()
    shutil.copy(old, old.with_name(f"{repo.head()[0]}.{old.name.partition('.')[2]}"))


# what the project asks for


@cheat("take code out of what counts as first-party, which no trial runs", GATE, r"GATE-SETTING: helper is no longer")
def _(repo: Repository) -> None:
    repo.change("pyproject.toml", ('"helper", ', ""))
    repo.change(
        "subject.py",
        ("    from helper import modulus\n\n    return sum(data) % modulus()", "    return sum(data) % 251"),
    )
    repo.settle()


@cheat("trust one's own key first, and sign with it in the next change", GATE, r"GATE-SETTING: keys/mine\.pub is a key")
def _(repo: Repository) -> None:
    signed(repo)
    repo.change("pyproject.toml", ('"keys/ci.pub"', '"keys/ci.pub", "keys/mine.pub"'))


@cheat(
    "put one's own key into the file of a trusted one", GATE, r"GATE-SETTING: keys/ci\.pub is a key that the base does"
)
def _(repo: Repository) -> None:
    signed(repo)
    shutil.copy(repo.path / "keys" / "mine.pub", repo.path / "keys" / "ci.pub")


@cheat("switch off the rule that finds it", GATE, r"GATE-SETTING: the severity of SCHEMA-009 went from \w+ to off")
def _(repo: Repository) -> None:
    text = (repo.path / "pyproject.toml").read_text()
    repo.write("pyproject.toml", text + '[tool.pv.severity]\nSCHEMA-009 = "off"\n')


@cheat(
    "suppress what the rule finds", GATE, r"GATE-SETTING: SCHEMA-009 is suppressed in \S+ until 2099-01-01, and was not"
)
def _(repo: Repository) -> None:
    entry = {"rule": "SCHEMA-009", "path": "contracts/*", "reason": "later"}
    lines = "".join(f'{key} = "{value}"\n' for key, value in entry.items()) + "until = 2099-01-01\n"
    text = (repo.path / "pyproject.toml").read_text()
    repo.write("pyproject.toml", f"{text}[[tool.pv.suppress]]\n{lines}")


@cheat(
    "add what the rule finds to the baseline", GATE, r"GATE-SETTING: the baseline holds 1 finding that it did not hold"
)
def _(repo: Repository) -> None:
    found = '{"rule": "SCHEMA-009", "path": "contracts/sum-v1.yaml", "message": "m", "count": 1}'
    repo.write("pv-baseline.json", f'{{"schema": "pv-baseline/1", "findings": [\n{found}\n]}}\n')
    repo.change("pyproject.toml", ("[tool.pv]\n", '[tool.pv]\nbaseline = "pv-baseline.json"\n'))


@cheat(
    "ask less of a milestone, so that it is reached",
    GATE,
    r"GATE-GOAL: ONE asks PARTIAL of FALSIFY-SUM-002, and asked F",
)
def _(repo: Repository) -> None:
    goal = "- {id: ONE, title: t, tests: [{contract: sum-v1, test: FALSIFY-SUM-002, level: FUNCTIONAL}]}\n"
    repo.write("milestones.yaml", goal)
    repo.change("pyproject.toml", ("[tool.pv]\n", '[tool.pv]\nmilestones = "milestones.yaml"\n'))
    repo.base = repo.commit()
    repo.write("milestones.yaml", goal.replace("FUNCTIONAL", "PARTIAL"))


# the files of evidence


@cheat("edit an outcome in a record", VERIFY, r"was changed after it was written")
def _(repo: Repository) -> None:
    path = repo.folder / repo.break_and_record()
    path.write_bytes(path.read_bytes().replace(b"FALSIFIED", b"SURVIVED"))


@cheat(
    "edit a record, and rename its file by its new digest",
    VERIFY,
    r"is missing: run \w+\.\. of \S+ lists it, about FAL",
)
def _(repo: Repository) -> None:
    repo.rewrite_record(repo.place("FALSIFY-SUM-001[algorithm]"), lambda value: pv_trial(value).update(comparisons=99))


@cheat("edit a record so that it contradicts itself", VERIFY, r"contradicts itself")
def _(repo: Repository) -> None:
    repo.rewrite_record(repo.break_and_record(), lambda value: pv_trial(value).update(outcome="SURVIVED", message=""))


@cheat(
    "delete the record that says FALSIFIED", VERIFY, r"is missing: run \w+\.\. of \S+ lists it, about FALSIFY-SUM-001"
)
def _(repo: Repository) -> None:
    (repo.folder / repo.break_and_record()).unlink()


@cheat(
    "delete it together with its run, in the middle of the chain", VERIFY, r"is missing: run \w+\.\. of \S+ came after"
)
def _(repo: Repository) -> None:
    place = repo.break_and_record()
    digest, _ = repo.head()
    repo.change("helper.py", ("'253'", "'251'"))
    repo.record()
    (repo.folder / place).unlink()
    (repo.folder / "_runs" / f"{digest}.json").unlink()


@cheat("delete the newest run with all its records", GATE, r"GATE-EVIDENCE")
def _(repo: Repository) -> None:
    repo.break_and_record()
    repo.base = repo.commit()
    digest, run = repo.head()
    for place in run.failed:
        (repo.folder / place).unlink()
    for place in set(run.records) - run.failed:
        if repo.evidence().chain.listed[place] == (digest,):
            (repo.folder / place).unlink()
    (repo.folder / "_runs" / f"{digest}.json").unlink()
    repo.change("helper.py", ("'253'", "'251'"))


@cheat("throw all evidence away and start again", GATE, r"GATE-EVIDENCE")
def _(repo: Repository) -> None:
    shutil.rmtree(repo.folder)
    repo.record()


@cheat("copy a record into the folder of another test", VERIFY, r"lies in the folder of another test")
def _(repo: Repository) -> None:
    place = repo.place("FALSIFY-SUM-001[algorithm]")
    shutil.copy(repo.folder / place, repo.folder / "sum-v1" / "FALSIFY-SUM-002" / Path(place).name)


@cheat("rewrite the record of one test as that of another", VERIFY, r"is a record that no run lists")
def _(repo: Repository) -> None:
    one = repo.evidence().records[repo.place("FALSIFY-SUM-001[algorithm]")]
    keep(repo.path / "apart", [replace(one, test="FALSIFY-SUM-002", falsifier="attacks:order")])
    shutil.copytree(repo.path / "apart" / "sum-v1", repo.folder / "sum-v1", dirs_exist_ok=True)


@cheat("release the record that says FALSIFIED", VERIFY, r"released it, though it speaks against its test")
def _(repo: Repository) -> None:
    place = repo.break_and_record()
    digest, run = repo.head()
    release = {"records": {place: run.records[place]}, "failed": frozenset(), "released": True}
    repo.put_run(replace(run, id="ab" * 16, parents=(digest,), **release))
    (repo.folder / place).unlink()


@cheat("delete the newest run, and release what it listed", VERIFY, r"releases .*, which no run lists")
def _(repo: Repository) -> None:
    repo.break_and_record()
    digest, run = repo.head()
    for place in run.records:
        if repo.evidence().chain.listed[place] == (digest,):
            (repo.folder / place).unlink()
    (repo.folder / "_runs" / f"{digest}.json").unlink()
    gone = {**run.records, f"sum-v1/FALSIFY-SUM-001/{digest}.json": "FALSIFY-SUM-001[algorithm]"}
    repo.put_run(replace(run, id="ab" * 16, records=gone, failed=frozenset(), released=True))


@cheat("forge a second machine that differs in its cores alone", VERIFY, r"and it was on .*; x86_64; Linux; ")
def _(repo: Repository) -> None:
    digest, run = repo.head()
    forged = replace(run.machine, cores=("GenuineIntel 6 1 1",))
    repo.put_run(replace(run, id="cd" * 16, parents=(digest,), machine=forged))


@cheat("state a level in other letters where nothing is bound", CHECK, r"FALSIFY-SUM-003 states DISCHARGED \(twice\)")
def _(repo: Repository) -> None:
    text = "- {id: FALSIFY-SUM-003, rule: r, prediction: 1 holds, if_fails: f, status: DISCHARGED (twice)}\n"
    repo.contract(("verification_summary:", f"{text}verification_summary:"))


@cheat("copy a test, so that it counts twice", CHECK, r"has two tests of the id FALSIFY-SUM-001")
def _(repo: Repository) -> None:
    repo.contract(("id: FALSIFY-SUM-002", "id: FALSIFY-SUM-001"))


BYTECODE = r"__pycache__/helper\.\S+\.pyc: holds other code than \S+helper\.py: Python runs it"


@cheat("plant bytecode that says it need not be checked, in place of the source", FALSIFY, BYTECODE)
def _(repo: Repository) -> None:
    repo.plant_bytecode(py_compile.PycInvalidationMode.UNCHECKED_HASH)


@cheat("plant bytecode with the size and the time of the source", FALSIFY, BYTECODE)
def _(repo: Repository) -> None:
    repo.plant_bytecode(py_compile.PycInvalidationMode.TIMESTAMP)


@cheat("take the code out of what counts as first-party", FALSIFY, r"the digest of attacks does not cover it")
def _(repo: Repository) -> None:
    repo.change("pyproject.toml", ('"helper", ', ""))


@cheat("mark the trial that fails as skipped, under --falsify-strict", STRICT, r"skipped before they were tried")
def _(repo: Repository) -> None:
    repo.write(
        "conftest.py",
        "import pytest\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items:\n        if 'SUM-002' in item.name:\n"
        "            item.add_marker(pytest.mark.skip(reason='later'))\n",
    )


LEFT_OUT = (
    r"1 of 9 trials {}: contracts/sum-v1.yaml::FALSIFY-SUM-001\[live-tiny\]\n[^\0]*FAILED: --falsify-strict demands"
)
TRIAL = "contracts/sum-v1.yaml::FALSIFY-SUM-001[live-tiny]"


@cheat("deselect the trial that fails, in addopts", STRICT, LEFT_OUT.format(r"deselected \(by --deselect \S+\)"))
def _(repo: Repository) -> None:
    repo.write("pytest.ini", f"[pytest]\naddopts = --deselect {TRIAL}\n")


@cheat("choose the trials that hold, in addopts", STRICT, LEFT_OUT.format(r"deselected \(by -k 'not live-tiny.*'\)"))
def _(repo: Repository) -> None:
    repo.write("pytest.ini", '[pytest]\naddopts = -k "not live-tiny or no_modulus or wrong_modulus"\n')


@cheat(
    "let a conftest drop the trial that fails", STRICT, LEFT_OUT.format(r"taken out by a hook of a plugin or a conf\S+")
)
def _(repo: Repository) -> None:
    hook = (
        "def pytest_collection_modifyitems(items):\n    items[:] = [i for i in items if not i.name.endswith('tiny]')]\n"
    )
    repo.write("conftest.py", hook)


FORGER = """\
import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if getattr(report, "pv_trial", None):
        {forge}
        report.outcome, report.longrepr = "passed", None
    return report
"""
FORGED = r"ERRORED .*FALSIFY-SUM-00\d\[.*: its report was changed or taken away by a hook"


@cheat("let a conftest rewrite what a trial came to", FALSIFY, rf"{FORGED}[\s\S]*not recorded, for the reports")
def _(repo: Repository) -> None:
    repo.change("helper.py", ("'251'", "'253'"))
    forge = "report.pv_trial = report.pv_trial.replace('FALSIFIED', 'SURVIVED')"
    repo.write("conftest.py", FORGER.format(forge=forge))


@cheat("let a conftest take away what a trial came to", FALSIFY, rf"{FORGED}[\s\S]*not recorded, for the reports")
def _(repo: Repository) -> None:
    repo.change("helper.py", ("'251'", "'253'"))
    repo.write("conftest.py", FORGER.format(forge="del report.pv_trial"))


@cheat("let a conftest switch --falsify-strict off", STRICT, r"1 of 9 trials taken out by a hook.*\n.*--falsify-strict")
def _(repo: Repository) -> None:
    hook = (
        "def pytest_configure(config):\n    config.option.falsify_strict = False\n\n\n"
        "def pytest_collection_modifyitems(items):\n    items[:] = [i for i in items if not i.name.endswith('tiny]')]\n"
    )
    repo.write("conftest.py", hook)


@cheat(
    "let a conftest end a run that failed with exit code 0", FALSIFY, r"a conftest\.py ended this run with exit code 0"
)
def _(repo: Repository) -> None:
    repo.change("helper.py", ("'251'", "'253'"))
    hook = (
        "import pytest\n\n\n@pytest.hookimpl(trylast=True)\ndef pytest_sessionfinish(session):\n"
        "    session.exitstatus = 0\n    pytest.exit('well', 0)\n"
    )
    repo.write("conftest.py", hook)


LEAVING = {
    "let a conftest end the process of a run that failed with os._exit(0)": (
        "_exit",
        "def pytest_unconfigure():\n    os._exit(0)\n",
    ),
    "let a conftest put a program that ends with 0 in the place of a run that failed": (
        "execv",
        "def pytest_unconfigure():\n    os.execl('/bin/true', 'true')\n",
    ),
    "let a callback of atexit end the process of a run that failed with os._exit(0)": (
        "_exit",
        "import atexit\n\natexit.register(lambda: os._exit(0))\n",
    ),
}
for way, (called, hook) in LEAVING.items():

    @cheat(way, APART, rf"FAILED: os\.{called} would have ended this run unseen; its exit code is 1")
    def _(repo: Repository, hook: str = hook) -> None:
        repo.change("helper.py", ("'251'", "'253'"))
        repo.write("conftest.py", f"import os\n\n\n{hook}")


@cheat(
    "let an option in addopts keep the run from any trial",
    FALSIFY,
    r"--collect-only in addopts or PYTEST_ADDOPTS keeps --falsify from making any trial",
)
def _(repo: Repository) -> None:
    repo.change("helper.py", ("'251'", "'253'"))
    repo.write("pytest.ini", "[pytest]\naddopts = --collect-only\n")


@cheat(
    "let an option keep a strict run from any trial",
    STRICT,
    r"--falsify-strict demands all trials, and --fixtures makes none",
)
def _(repo: Repository) -> None:
    repo.change("helper.py", ("'251'", "'253'"))
    repo.write("pytest.ini", "[pytest]\naddopts = --fixtures\n")


@cheat("let a conftest make the trial that fails itself", STRICT, LEFT_OUT.format(r"never tried \(.*\)"))
def _(repo: Repository) -> None:
    hook = "def pytest_runtest_protocol(item):\n    return True if item.name.endswith('tiny]') else None\n"
    repo.write("conftest.py", hook)


@cheat("let a conftest put another function in the place of the trial", STRICT, LEFT_OUT.format(r"never tried \(.*\)"))
def _(repo: Repository) -> None:
    hook = "def pytest_runtest_setup(item):\n    if item.name.endswith('tiny]'):\n        item.runtest = lambda: None\n"
    repo.write("conftest.py", hook)


@cheat(
    "name the trials that hold in addopts", STRICT, r"8 of 9 trials not named by the arguments: .*\n.*--falsify-strict"
)
def _(repo: Repository) -> None:
    repo.write("pytest.ini", f"[pytest]\naddopts = {TRIAL}\n")


@cheat(
    "ignore the contract that fails", STRICT, r"1 contract not collected \(.*\): contracts/bad-v1.yaml\n.*--falsify-str"
)
def _(repo: Repository) -> None:
    text = (repo.path / "contracts/sum-v1.yaml").read_text()
    repo.write("contracts/bad-v1.yaml", text.replace("FALSIFY-SUM", "FALSIFY-BAD").replace("OBL-1", "BAD-1"))
    repo.write("conftest.py", 'collect_ignore_glob = ["contracts/bad*"]\n')


@cheat(
    "take the trial that fails out of the run that records", CHECK, r"SUM-001 states FUNCTIONAL, earned PARTIAL_ALGO"
)
def _(repo: Repository) -> None:
    repo.write("pytest.ini", f"[pytest]\naddopts = --deselect {TRIAL}\n")
    repo.change("helper.py", ("'251'", "'251' "))
    repo.record()


def forge_the_index(repo: Repository) -> None:
    """An edited record, and an index in the user's cache that says it was read as it was before."""
    home = "sum-v1/FALSIFY-SUM-002"
    path = repo.folder / repo.place("FALSIFY-SUM-002[algorithm]")
    shelf = repo.evidence().shelves[home]
    path.write_bytes(path.read_bytes().replace(b'"comparisons":2', b'"comparisons":9'))
    about = [(file.name, file.stat()) for file in sorted(path.parent.iterdir())]
    stamps = tuple((name, at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino) for name, at in about)
    index = open_index(repo.folder)
    assert index
    index.entries[home] = (_stamp(stamps), _checksum(shelf.facts, shelf.records), shelf.facts, shelf.records)
    index.changed = True
    index.save({home: stamps})
    assert main(["status"]) == 0, "the index is believed where nobody judges by it"


@cheat("forge the index in the user's cache", CHECK, r"was changed after it was written: its bytes have sha256")
def _(repo: Repository) -> None:
    forge_the_index(repo)


@cheat("forge the index, and promote", ("promote",), r"was changed after it was written: its bytes have sha256")
def _(repo: Repository) -> None:
    forge_the_index(repo)


@cheat("let a run say that a failed record passed", VERIFY, r"says of .* that it passed, and it failed")
def _(repo: Repository) -> None:
    repo.break_and_record()
    repo.replace_run(repo.head()[0], failed=frozenset())


@cheat("backdate a run", VERIFY, r"is dated 2001-01-01T00:00:00Z, before its parent")
def _(repo: Repository) -> None:
    repo.record()
    repo.replace_run(repo.head()[0], time="2001-01-01T00:00:00Z")


@cheat("date a run in the future", GATE, r"GATE-EVIDENCE: is dated 2099-01-01T00:00:00Z, ahead of this machine's clock")
def _(repo: Repository) -> None:
    repo.record()
    repo.replace_run(repo.head()[0], time="2099-01-01T00:00:00Z")


@cheat("reuse the id of a run", VERIFY, r"reuses the id \w+ of run")
def _(repo: Repository) -> None:
    digest, run = repo.head()
    repo.put_run(replace(run, parents=(digest,)))


@cheat(
    "forge a second machine", VERIFY, r"that it was made on Neoverse; aarch64; Linux; \S+ 8 \S+ \S+ 1, and it was on"
)
def _(repo: Repository) -> None:
    digest, run = repo.head()
    repo.put_run(replace(run, id="cd" * 16, parents=(digest,), machine=ARM))


@cheat("count one machine twice", CHECK, r"FALSIFY-SUM-001 states DISCHARGED, earned FUNCTIONAL")
def _(repo: Repository) -> None:
    shutil.copytree(repo.folder, repo.path / "other")
    repo.record("--falsify-evidence", "other")
    merge(repo.folder, [repo.path / "other"])
    repo.contract(("status: FUNCTIONAL", "status: DISCHARGED"))


@cheat("let a link lead evidence elsewhere", VERIFY, r"is a symbolic link")
def _(repo: Repository) -> None:
    home = repo.folder / "sum-v1" / "FALSIFY-SUM-002"
    home.rename(repo.path / "elsewhere")
    home.symlink_to(repo.path / "elsewhere")


@cheat("leave a file that claims to be an unfinished run", VERIFY, r"is damaged: its bytes are not those")
def _(repo: Repository) -> None:
    place = repo.break_and_record()
    (repo.folder / "_runs" / f"{'ab' * 32}.pending").write_text(place)


@cheat("replace the evidence by what a merged folder says of it", VERIFY, r"is missing: run")
def _(repo: Repository) -> None:
    place = repo.break_and_record()
    shutil.copytree(repo.folder, repo.path / "other")
    shutil.rmtree(repo.folder / "sum-v1" / "FALSIFY-SUM-001")
    (repo.path / "other" / place).unlink()
    shutil.copytree(repo.path / "other" / "sum-v1", repo.folder / "sum-v1", dirs_exist_ok=True)


@pytest.fixture
def repo(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(pytester.path)
    monkeypatch.setenv("PV_CACHE_DIR", f"{pytester.path}-cache")
    return Repository(pytester)


def caught(repo: Repository, cheat: Cheat, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    if cheat.command[0] == "pytest":
        apart = cheat.command == APART
        result = repo.pytester.runpytest_subprocess("--falsify") if apart else repo.record(*cheat.command[1:])
        return int(result.ret), result.stdout.str() + result.stderr.str()
    return said(capsys, *(repo.base if word == "BASE" else word for word in cheat.command))


def test_nothing_is_caught_where_nobody_cheats(repo: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (CHECK, VERIFY, GATE):
        code, told = said(capsys, *(repo.base if word == "BASE" else word for word in command))
        assert code == 0, told
    text = (repo.path / "contracts/sum-v1.yaml").read_text()
    assert ("status: FUNCTIONAL" in text, "status: PARTIAL_ALGORITHM_LEVEL" in text) == (True, True)
    assert repo.record().ret == 0


@pytest.mark.parametrize("cheat", CHEATS, ids=[cheat.name.replace(" ", "_") for cheat in CHEATS])
def test_cheating_is_caught(repo: Repository, cheat: Cheat, capsys: pytest.CaptureFixture[str]) -> None:
    cheat.do(repo)
    code, told = caught(repo, cheat, capsys)
    assert code in ((1, 4, 5) if cheat.command[0] == "pytest" else (1,)), told
    assert re.search(cheat.says, told), told


def test_two_machines_that_agree_discharge_what_one_machine_twice_does_not(
    repo: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [on_arm(record) for record in repo.evidence().records.values()]
    keep(repo.path / "arm", records, machine=ARM)
    merge(repo.folder, [repo.path / "arm"])
    repo.promote()
    code, told = said(capsys, *CHECK)
    assert code == 0, told
    assert re.search(r"FALSIFY-SUM-001\s+DISCHARGED\s+DISCHARGED", told)


def test_two_machines_that_disagree_discharge_nothing(repo: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    records = [on_arm(record) for record in repo.evidence().records.values()]
    records = [replace(one, outputs=dict.fromkeys(one.outputs, "ab" * 32)) for one in records]
    keep(repo.path / "arm", records, machine=ARM)
    merge(repo.folder, [repo.path / "arm"])
    assert "nor do all machines put out the same on tiny" in said(capsys, "ledger", "--json")[1]


def test_a_promise_that_broke_on_another_machine_is_falsified(
    repo: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    from pv.outcome import Outcome

    one = on_arm(repo.evidence().records[repo.place("FALSIFY-SUM-001[algorithm]")])
    keep(repo.path / "arm", [replace(one, outcome=Outcome.FALSIFIED, message="checksum: 251")], machine=ARM)
    merge(repo.folder, [repo.path / "arm"])
    code, told = said(capsys, *CHECK)
    assert code == 1
    assert "FALSIFIED [algorithm]: checksum: 251" in told


def test_the_page_shows_every_row_and_the_readme_counts_them() -> None:
    rows = [f"| {cheat.name} | `{COMMANDS[cheat.command]}` |" for cheat in CHEATS]
    page = (ROOT / "docs" / "cheats.md").read_text(encoding="utf-8")
    assert [line.rsplit(" | ", 1)[0] + " |" for line in page.splitlines() if line.startswith("| ")][1:] == rows
    assert len({cheat.name for cheat in CHEATS}) == len(CHEATS) >= 25
    assert f"{len(CHEATS)} ways to cheat" in (ROOT / "README.md").read_text(encoding="utf-8")
