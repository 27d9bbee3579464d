"""`pv new`: a contract and the module of its falsifiers, valid at once and red until they are written."""

import contextlib
import json
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pv.config import Config, config_of, content_around
from pv.errors import PvError
from pv.walk import yaml_files

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
VERSIONED = re.compile(r"(.+)-v[0-9]+")
LONGEST = 80

CONTRACT = """\
metadata:
  version: 0.1.0
  kind: pattern
  description: "What {title} promises"
  references:
    - "where the promise stands: a paper, a specification, a file format"
  status: PROPOSED

equations:
  promise:
    formula: "what holds, as a formula"
    domain: "for which inputs"

proof_obligations:
  - id: OBL-{ID}-001
    type: invariant
    property: "what must not break"

falsification_tests:
  - id: FALSIFY-{ID}-001
    rule: "what must hold"
    prediction: "what is observed if it holds, with numbers"
    if_fails: "what is broken then, and where to look"
    binds_to: promise
    obligations: [OBL-{ID}-001]
    falsifiers:
      algorithm: {module}:promise_holds
    mutants: [planted_defect]
"""
MODULE = '''\
"""Falsifiers of contracts/{stem}.yaml, and the defects that they must catch."""

from collections.abc import Iterator

from pv.trial import Trial, mutant


def promise_holds(trial: Trial) -> None:
    """Try to break what FALSIFY-{ID}-001 predicts."""
    # got = subject(trial.rng.standard_normal(64))
    # trial.equal(got.size, 64, "number of outputs")
    raise NotImplementedError("not written yet: promise_holds of FALSIFY-{ID}-001")


@mutant
def planted_defect() -> Iterator[None]:
    """What the defect does wrong."""
    # with patched(module, "function", wrong):  (patched of pv.trial)
    #     yield
    raise NotImplementedError("not written yet: a defect that FALSIFY-{ID}-001 must catch")
    yield
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What was written.

    files    the contract, its module, and the __init__ files that its packages lacked
    missing  lines that pyproject.toml lacks, none where it has [tool.pv]
    """

    contract: Path
    files: tuple[Path, ...]
    missing: tuple[str, ...]


def start(name: str, package: str, folder: Path) -> Started:
    """Write a contract called `name` and its module in `package` into the project around `folder`.

    PvError, and nothing written, for a name that is none, for what exists already, and for a package that is not
    first-party.
    """
    root, content = content_around(folder)
    config = config_of(root, content)
    found = VERSIONED.fullmatch(name)
    title, stem = (found[1], name) if found else (name, f"{name}-v1")
    if NAME.fullmatch(title) is None or len(name) > LONGEST:
        hint = "lower-case words of a-z and 0-9 with '-' between them, as rmsnorm-kernel"
        raise PvError(f"{name!r} is no name for a contract", hint=hint)
    for word in (*package.split("."), title.replace("-", "_")):
        if not (word.isascii() and word.isidentifier() and len(word) <= LONGEST) or keyword.iskeyword(word):
            raise PvError(f"{word!r} is no name for a Python module", hint="choose another name, or --falsifiers")
    top, table = package.partition(".")[0], content.get("tool", {}).get("pv", {})
    if "first-party" in table and top not in config.first_party:
        hint = f"first-party = {_listed([*config.first_party, top])}"
        raise PvError(f"{top!r} is not first-party", where=str(root / "pyproject.toml"), hint=hint)
    module = _source(config, top).joinpath(*package.split("."), f"{title.replace('-', '_')}.py")
    contract = config.contracts / f"{stem}.yaml"
    for file in _taken(config, stem):
        raise PvError("is there already; nothing is written", where=str(file))
    words = {"title": title, "stem": stem, "ID": title.upper(), "module": f"{package}.{module.stem}"}
    texts = {contract: CONTRACT.format(**words), module: MODULE.format(**words)}
    for parent in module.parents:
        if parent.is_relative_to(_source(config, top) / top) and not (parent / "__init__.py").exists():
            texts[parent / "__init__.py"] = ""
    _write(texts)
    missing = () if "pv" in content.get("tool", {}) else _table(config_of(root, content))
    return Started(contract=contract, files=tuple(texts), missing=missing)


def _source(config: Config, top: str) -> Path:
    """Where a package lies: in the root, or in src/ if it is there already."""
    return next((folder for folder in config.sources if (folder / top).is_dir()), config.root)


def _taken(config: Config, stem: str) -> list[Path]:
    """Contracts of this name: evidence is kept under it, so there can be one only."""
    return [file for file in yaml_files(config.contracts) if file.stem == stem] if config.contracts.is_dir() else []


def _table(config: Config) -> tuple[str, ...]:
    return (
        "[tool.pv]",
        f'contracts = "{config.contracts.relative_to(config.root).as_posix()}"',
        f'evidence = "{config.evidence.relative_to(config.root).as_posix()}"',
        f"first-party = {_listed(config.first_party)}",
    )


def _listed(names: Sequence[str]) -> str:
    return json.dumps(list(names))  # which is TOML too


def _write(texts: Mapping[Path, str]) -> None:
    """Write files that must not exist yet: all of them, or none."""
    made: list[Path] = []
    try:
        for file, text in texts.items():
            for folder in reversed([file.parent, *file.parent.parents]):
                if not folder.exists():
                    folder.mkdir()
                    made.append(folder)
            with file.open("x", encoding="utf-8", newline="\n") as stream:
                made.append(file)
                stream.write(text)
    except BaseException as error:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        if not isinstance(error, OSError):
            raise
        reason = "is there already" if isinstance(error, FileExistsError) else f"cannot be written: {error.strerror}"
        raise PvError(f"{reason}; nothing is written", where=str(error.filename)) from None
