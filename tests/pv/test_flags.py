"""Every flag of `pv` says what it does, and does something.

A flag is demonstrated by two command lines that differ in it alone and whose outcomes differ: exit code, what is
printed, files, processes. Where a flag has choices, `{}` stands for each of them, and no two have one outcome. To add a
flag, add a line to DEMONSTRATIONS; the files are those of `material`.
"""

import argparse
import functools
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pv.binding import bind
from pv.cli import build_parser
from pv.evidence.keys import make_pair
from pv.evidence.recording import keep
from pv.measure import SHARE
from tests.pv.test_binding import project, recorded
from tests.pv.test_git import commit, run
from tests.pv.verdicts import ERROR, GOOD, WARNING

DIGEST = hashlib.sha256(b"kept").hexdigest()
DAMAGED = hashlib.sha256(b"lost").hexdigest()
"""Of two artifacts, the second of which has other bytes in the store."""
DEMONSTRATIONS = {
    "--version": ("explain", "--version"),
    "validate paths": ("validate more/good.yaml", "validate more/bad.yaml"),
    "validate --format": ("validate more/bad.yaml", "validate more/bad.yaml --format {}"),
    "validate --json": ("validate more/bad.yaml", "validate more/bad.yaml --json"),
    "validate --notes": ("validate more/noted.yaml", "validate more/noted.yaml --notes"),
    "validate --quiet": ("validate more/bad.yaml", "validate more/bad.yaml --quiet"),
    "validate --strict": ("validate more/warned.yaml", "validate more/warned.yaml --strict"),
    "validate --write-baseline": ("validate more/good.yaml", "validate more/good.yaml --write-baseline"),
    "validate --accept-new": ("validate more --write-baseline", "validate more --write-baseline --accept-new"),
    "validate --jobs": ("validate many --jobs 1", "validate many --jobs 2"),
    "validate --no-cache": ("validate more/good.yaml", "validate more/good.yaml --no-cache"),
    "lint paths": ("lint more/good.yaml", "lint more/bad.yaml"),
    "lint --format": ("lint more/bad.yaml", "lint more/bad.yaml --format {}"),
    "lint --json": ("lint more/bad.yaml", "lint more/bad.yaml --json"),
    "lint --notes": ("lint more/noted.yaml", "lint more/noted.yaml --notes"),
    "lint --quiet": ("lint more/bad.yaml", "lint more/bad.yaml --quiet"),
    "lint --strict": ("lint more/warned.yaml", "lint more/warned.yaml --strict"),
    "lint --write-baseline": ("lint more/good.yaml", "lint more/good.yaml --write-baseline"),
    "lint --accept-new": ("lint more --write-baseline", "lint more --write-baseline --accept-new"),
    "lint --jobs": ("lint many --jobs 1", "lint many --jobs 2"),
    "lint --no-cache": ("lint more/good.yaml", "lint more/good.yaml --no-cache"),
    "lint --binding": ("lint more/good.yaml", "lint more/good.yaml --binding registry.yaml"),
    "lint --import": ("lint made", "lint made --import"),
    "explain rule": ("explain", "explain SCHEMA-004"),
    "status paths": ("status", "status contracts/over-v1.yaml"),
    "status --json": ("status", "status --json"),
    "status --check": ("status", "status --check"),
    "ledger words": ("ledger", "ledger diff before"),
    "ledger --format": ("ledger", "ledger --format {}"),
    "ledger --json": ("ledger", "ledger --json"),
    "ledger --milestones": ("ledger", "ledger --milestones"),
    "ledger --base": ("ledger --milestones", "ledger --milestones --base before"),
    "gate --base": ("gate --base HEAD", "gate --base HEAD~1"),
    "gate --format": ("gate --base HEAD", "gate --base HEAD --format {}"),
    "gate --json": ("gate --base HEAD", "gate --base HEAD --json"),
    "evidence verify folder": ("evidence verify", "evidence verify elsewhere"),
    "evidence verify --json": ("evidence verify", "evidence verify --json"),
    "evidence merge sources": ("evidence merge elsewhere", "evidence merge farther"),
    "evidence merge --into": ("evidence merge elsewhere", "evidence merge elsewhere --into farther"),
    "evidence gc --dry-run": ("evidence gc", "evidence gc --dry-run"),
    "replay evidence": ("replay RECORD-1", "replay RECORD-2"),
    "promote paths": ("promote", "promote contracts/over-v1.yaml"),
    "promote --write": ("promote", "promote --write"),
    "evidence sign runs": ("evidence sign --key ci --all", "evidence sign --key ci <run>"),
    "evidence sign --all": ("evidence sign --key ci", "evidence sign --key ci --all"),
    "evidence sign --key": ("evidence sign --key ci", "evidence sign --key next"),
    "evidence sign --public-key": ("evidence sign --key ci", "evidence sign --key ci --public-key named.json"),
    "evidence keygen file": ("evidence artifacts", "evidence keygen new"),
    "evidence artifacts --verify": ("evidence artifacts", "evidence artifacts --verify"),
    "evidence artifacts --fetch": ("evidence artifacts", f"evidence artifacts --fetch {DIGEST} --output out"),
    "evidence artifacts --output": (
        f"evidence artifacts --fetch {DIGEST} --output out",
        f"evidence artifacts --fetch {DIGEST} --output other",
    ),
    "coverage paths": ("coverage", "coverage contracts/over-v1.yaml"),
    "coverage --json": ("coverage", "coverage --json"),
    "coverage --min": ("coverage", "coverage --min 99"),
    "obligations paths": ("obligations", "obligations contracts/over-v1.yaml"),
    "obligations --json": ("obligations", "obligations --json"),
    "equations paths": ("equations", "equations contracts/over-v1.yaml"),
    "equations --format": ("equations", "equations --format {}"),
    "graph paths": ("graph", "graph contracts/over-v1.yaml"),
    "graph --format": ("graph", "graph --format {}"),
    "diff old": ("diff more/good.yaml more/warned.yaml", "diff more/noted.yaml more/warned.yaml"),
    "diff new": ("diff more/good.yaml more/warned.yaml", "diff more/good.yaml more/good.yaml"),
    "diff --json": ("diff more/good.yaml more/warned.yaml", "diff more/good.yaml more/warned.yaml --json"),
    "migrate paths": ("migrate old", "migrate more/good.yaml"),
    "migrate --write": ("migrate old", "migrate old --write"),
    "new name": ("new first --falsifiers checks", "new second --falsifiers checks"),
    "new --falsifiers": ("new first --falsifiers checks", "new first --falsifiers trials"),
    "completion shell": ("completion bash", "completion {}"),
}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A project with evidence, and contracts of every sort beside it."""
    folder = tmp_path_factory.mktemp("material")
    falsifiers = "import sums\n\n\ndef order(trial):\n    trial.equal(1, 1, 'a')\n    trial.equal(2, 2, 'b')\n\n\n"
    falsifiers += "def files(trial): ...\ndef same_as_zlib(trial): ...\n"
    config, contract = project(folder, **{"checks/sums.py": falsifiers})
    (first, *_) = recorded(bind(contract, contract.tests[0], config), config)
    artifacts = {"outputs": {"a": DIGEST, "b": DAMAGED}, "artifacts": {"a": 4, "b": 4}}
    kept = replace(first, claim="ab" * 32, **artifacts)
    keep(config.evidence, [replace(first, observations={"seen": 1}), replace(first, claim="ab" * 32), kept])
    for number, name in enumerate(("elsewhere", "farther")):
        keep(folder / name, [replace(first, claim=f"{number:064}")])
    for digest in (DIGEST, DAMAGED):
        (folder / "store/sha256" / digest[:2]).mkdir(parents=True)
        (folder / "store/sha256" / digest[:2] / digest).write_bytes(b"kept")
    keys = [make_pair(folder / name) for name in ("ci", "next")]
    (folder / "named.json").write_text(json.dumps({**keys[0].to_dict(), "keyid": "ci"}))
    over = (folder / "contracts/checksum-v1.yaml").read_text().replace("T-", "O-").replace("PARTIAL", "DISCHARGED")
    texts = {
        "pyproject.toml": '[tool.pv]\nfirst-party = ["checks", "sums", "trials"]\nmodels = "models.yaml"\n'
        f'milestones = "goals.yaml"\nbaseline = "known.json"\nstore = "file://{folder}/store"\n',
        "known.json": '{"schema": "pv-baseline/1", "findings": [\n'
        '{"rule": "SCHEMA-001", "path": "more/good.yaml", "message": "mended", "count": 1}\n]}\n',
        "contracts/over-v1.yaml": over,
        "trials/__init__.py": "made = dict(a=len)['a']\n",
        "made/x.yaml": GOOD + "falsification_tests:\n"
        "- {id: T-1, rule: r, prediction: 1, if_fails: f, falsifiers: {algorithm: 'trials:made'}, mutants: []}\n",
        "goals.yaml": "- {id: M, title: t, tests: [{contract: checksum-v1, test: T-1, level: PARTIAL}]}\n",
        "before/pyproject.toml": "[tool.pv]\n",
        "before/contracts/checksum-v1.yaml": over,
        "more/good.yaml": GOOD,
        "more/bad.yaml": ERROR,
        "more/warned.yaml": WARNING,
        "more/noted.yaml": GOOD + "history: said once\n",
        "old/x-v1.yaml": GOOD + "falsification_tests:\n- {id: T-1, expected: p, fails_if: f}\n",
        "registry.yaml": "version: 1.0.0\ntarget_crate: c\nbindings:\n"
        "- {contract: good.yaml, equation: e, function: f, status: not_implemented}\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    run(folder, "init", "-q")
    run(folder, "add", "more")
    run(folder, "commit", "-q", "-m", "before there was a contract")
    commit(folder)
    return folder


RUN = """\
import json, os, sys
forks = []
os.register_at_fork(after_in_parent=lambda: forks.append(1))
from pv.cli import main
try:
    code = main(sys.argv[2:])
except SystemExit as ended:
    code = ended.code
sys.stdout.flush()
open(sys.argv[1], "w").write(json.dumps([code, len(forks)]))
"""


def outcome(line: str, material: Path, place: Path) -> tuple[object, ...]:
    """Exit code, number of processes, output and files after a command, each time in a fresh copy at the same place."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(material, place)
    if " many " in line:
        (place / "many").mkdir()
        for number in range(2 * SHARE):
            (place / "many" / f"{number}.yaml").write_text(GOOD)
    told = place.with_suffix(".json")
    line = line.replace("<run>", min((material / "evidence/_runs").iterdir()).stem)
    for name, observations in (("RECORD-1", b'"observations":{}'), ("RECORD-2", b'"observations":{"seen":1}')):
        if name in line:
            (*_, file) = (file for file in place.glob("evidence/*/T-1/*") if _is_first(file.read_bytes(), observations))
            line = line.replace(name, file.stem)
    environment = {**os.environ, "PV_CACHE_DIR": str(place / ".kept")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(told), *shlex.split(line)],
        cwd=place,
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    code, forks = json.loads(told.read_text())
    assert code in (0, 1), f"{line}: a refusal shows nothing of what a flag does: {done.stderr}"
    files = {str(file.relative_to(place)): file.read_bytes() for file in sorted(place.rglob("*")) if file.is_file()}
    kept = any(name.startswith(".kept/") for name in files)  # the cache's own files change with every source of pv
    apart = (".kept/", "__pycache__", "/_runs/")  # a run statement tells its time
    written = {name: text for name, text in files.items() if not any(part in name for part in apart)}
    return code, forks, done.stdout, written, kept


def _is_first(data: bytes, observations: bytes) -> bool:
    return b'"T-1[algorithm]"' in data and observations in data and b'"claim":"abab' not in data


def flags() -> dict[str, argparse.Action]:
    """All arguments of all commands: "COMMAND --flag" by its longest spelling, "COMMAND name" for a positional one."""
    found = {}
    pending = [("", build_parser())]
    while pending:
        name, command = pending.pop()
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                pending += [(f"{name} {inner}".strip(), parser) for inner, parser in action.choices.items()]
            elif not isinstance(action, argparse._HelpAction):
                found[f"{name} {max(action.option_strings, key=len, default=action.dest)}".strip()] = action
    return found


FLAGS = flags()


def test_every_flag_is_demonstrated_and_nothing_else():
    assert set(DEMONSTRATIONS) == set(FLAGS)


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_says_what_it_does(flag):
    assert FLAGS[flag].help not in (None, "", argparse.SUPPRESS)


def test_every_command_says_what_it_does():
    (commands,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        assert command.description, name
    assert {choice.dest for choice in commands._choices_actions if choice.help} == set(commands.choices)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("outcomes") / "project"


@pytest.fixture(scope="module")
def outcomes(material, place):
    """The outcome of a line, looked up where another flag has asked for it."""
    return functools.cache(lambda line: outcome(line, material, place))


@pytest.mark.parametrize("flag", sorted(set(DEMONSTRATIONS) & set(FLAGS)))
def test_a_flag_changes_the_outcome(flag, outcomes):
    without, with_it = DEMONSTRATIONS[flag]
    choices = FLAGS[flag].choices
    assert ("{}" in with_it) is bool(choices)
    found = [outcomes(with_it.format(choice)) for choice in choices or [""]]
    if choices:
        assert outcomes(without) in found, "what is chosen without the flag is one of the choices"
    else:
        found.append(outcomes(without))
    assert all(mine != other for at, mine in enumerate(found) for other in found[:at])


@pytest.mark.parametrize("line", sorted({without for without, _ in DEMONSTRATIONS.values()}))
def test_a_command_has_one_outcome(line, material, place, outcomes):
    assert outcome(line, material, place) == outcomes(line)
