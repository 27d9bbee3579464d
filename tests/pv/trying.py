"""What the tests of single trials share: a project with one module of falsifiers, made anew for each try."""

import hashlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pv import attempt
from pv.binding import Binding, Planned
from pv.config import Config
from pv.outcome import Outcome
from pv.runner import Result, run
from pv.statement import ModelSubject

HEADER = """\
    from pv.trial import Falsified, Trial, mutant, patched

    limit = 3

    @mutant
    def raised_limit():
        "Raises the limit to 4."
        global limit
        limit = 4
        yield
        limit = 3

"""
MODEL = b"weights"
SHA256 = hashlib.sha256(MODEL).hexdigest()

Try = Callable[..., Result]
LIVE = """
import subprocess
def f(trial):
    done = subprocess.run(["cat", trial.model.path], capture_output=True)
    trial.at_most(limit, 3, "limit")
    trial.equal(done.stdout, b'weights', trial.model.name)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # modules of one name and size follow each other too fast
    monkeypatch.setattr(attempt, "_spoiled", [])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("subject", "helper"):
            del sys.modules[name]


@pytest.fixture
def try_(project: Path) -> Try:
    """Try the falsifier `f` of a module `subject` with this body."""

    def try_one(body: str, *, header: str = HEADER, **options: Any) -> Result:
        text = textwrap.dedent(header) + textwrap.dedent(body)
        (project / "subject.py").write_text(text, encoding="utf-8")
        sys.modules.pop("subject", None)
        own = {name: options.pop(name) for name in ("seed", "skips", "twice") if name in options}
        limit = options.pop("limit", None)
        planned = Planned(**{"role": "algorithm", "falsifier": "subject:f", **options})
        binding = Binding(
            contract="limits",
            test="FALSIFY-L-001",
            planned=(planned,),
            claim="a" * 64,
            code={planned.falsifier: "b" * 64},
            models={"tiny": ModelSubject(name="tiny", sha256=SHA256)},
            limit=limit,
        )
        config = Config(
            root=project,
            contracts=project / "contracts",
            evidence=project / "evidence",
            models=project / "registry.yaml",
            first_party=("helper", "other", "subject"),
        )
        return run(binding, planned, config, where="contracts/limits.yaml:7", **own)

    return try_one


@pytest.fixture
def registry(project: Path) -> Path:
    text = f"tiny: {{sha256: {SHA256}, size: {len(MODEL)}, file: tiny.gguf, licence: CC0-1.0, about: a test}}\n"
    (project / "registry.yaml").write_text(text, encoding="utf-8")
    return project / "tiny.gguf"


HONEST = "trial.at_most(limit, 3, 'limit')"


def outcome(try_: Try, body: str, mutant: str | None = None) -> tuple[Outcome, str]:
    record = try_(body, mutant=mutant).record
    return record.outcome, record.message
