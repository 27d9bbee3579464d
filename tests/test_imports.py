"""Who may import whom (read from the source by ast), and what starts without the heavy libraries."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "engine": {"pv", "falsifiers", "pytest", "_pytest", "tests", "tools", "benchmarks"},
    "pv": {"engine", "falsifiers", "numba", "llvmlite", "tests", "tools", "benchmarks"},
    "falsifiers": {"pytest", "_pytest", "tests", "tools", "benchmarks"},
}
AUTHOR_API = "pv.trial"
TRIED_BY_NAME = {"falsifiers/contract_validates.py": "pv.validate"}
"""Where a falsifier is about pv itself, its mutants plant their defect there, as pv meets falsifiers: by name."""
WITHOUT_NUMBA = (
    *("gguf", "formats", "aprt", "diff", "stages", "tokenizer", "registry", "model", "inspection", "variants"),
    *("cli", "gguf_writer", "mixes", "synth", "quantise", "quantise_file"),
    *("safetensors", "checkpoint", "checkpoint_config", "checkpoint_tokenizer", "opening", "pulled", "hub"),
)
HEAVY = {"numba", "llvmlite", "torch", "hypothesis", "tokenizers", "jinja2"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import of a file, within functions and TYPE_CHECKING too.

    A relative import is given as its absolute name; `from a import b` as `a.b`, since b may be a module.
    """
    package = path.parent.name
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, (package, node.module))) if node.level else str(node.module)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def wrong_edges(root: Path) -> list[str]:
    """Imports below `root` that cross a border, as file:line: module."""
    found = []
    for package, forbidden in FORBIDDEN.items():
        for path in sorted((root / package).rglob("*.py")):
            for line, module in imports(path):
                top = module.split(".")[0]
                author_api = module == AUTHOR_API or module.startswith(AUTHOR_API + ".")
                if TRIED_BY_NAME.get(path.relative_to(root).as_posix()) == module:
                    continue
                if top in forbidden or (package == "falsifiers" and top == "pv" and not author_api):
                    found.append(f"{path.relative_to(root).as_posix()}:{line}: {module}")
    return found


def test_no_import_crosses_a_border():
    assert wrong_edges(ROOT) == []


def test_every_package_has_files_that_are_read():
    for package in FORBIDDEN:
        assert len(list((ROOT / package).rglob("*.py"))) > 3


PLANTED = [
    ("engine", "import pv.trial", "pv.trial"),
    ("engine", "from falsifiers import synthetic", "falsifiers.synthetic"),
    ("engine", "def f():\n    import pytest", "pytest"),
    ("engine", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pv.trial import Trial", "pv.trial.Trial"),
    ("pv", "from engine.stages import NAMES", "engine.stages.NAMES"),
    ("pv", "def f():\n    from falsifiers import planted", "falsifiers.planted"),
    ("pv", "def f():\n    import numba", "numba"),
    ("pv", "import importlib\nimportlib.import_module('engine.model')", "engine.model"),
    ("falsifiers", "from pv.statement import Record", "pv.statement.Record"),
    ("falsifiers", "from pv import outcome", "pv.outcome"),
    ("falsifiers", "import pytest", "pytest"),
]


@pytest.mark.parametrize(("package", "source", "module"), PLANTED, ids=[f"{row[0]}-{row[2]}" for row in PLANTED])
def test_an_import_that_crosses_a_border_is_seen(tmp_path, package, source, module):
    for name in FORBIDDEN:
        (tmp_path / name / "deeper").mkdir(parents=True)
        (tmp_path / name / "fine.py").write_text("import numpy\n")
    (tmp_path / package / "deeper" / "wrong.py").write_text(source + "\n")
    line = len(source.splitlines())
    assert wrong_edges(tmp_path) == [f"{package}/deeper/wrong.py:{line}: {module}"]


def test_the_author_api_is_open_to_falsifiers(tmp_path):
    (tmp_path / "falsifiers").mkdir()
    (tmp_path / "falsifiers/fine.py").write_text(
        "from pv.trial import Trial, mutant\nfrom pv import trial\nimport pv.trial\nimport engine.fast\n"
    )
    assert wrong_edges(tmp_path) == []


# ---------------------------------------------------------------- what starting costs


def loaded(code: str) -> set[str]:
    """Top-level modules that are loaded once the code has run, in an interpreter of its own."""
    report = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_the_command_pv_starts_without_the_engine_and_heavy_libraries():
    assert not loaded("import pv.cli") & (HEAVY | {"engine", "falsifiers", "pytest", "_pytest", "numpy", "rich"})


def test_the_plugin_starts_without_the_engine_and_heavy_libraries():
    found = loaded("import pv.pytest_plugin")
    assert "pytest" in found
    assert not found & (HEAVY | {"engine", "falsifiers", "numpy", "rich", "xdist"})


def test_the_help_of_apr_is_shown_without_numba_and_numpy():
    code = "import engine.cli\ntry: engine.cli.main(['--help'])\nexcept SystemExit: pass"
    assert not loaded(code) & (HEAVY | {"pv", "falsifiers", "pytest", "numpy"})


def test_only_the_fast_path_loads_numba():
    modules = ", ".join(f"engine.{name}" for name in WITHOUT_NUMBA)
    assert not loaded(f"import {modules}") & {"numba", "llvmlite", "torch", "pv", "pytest"}
    assert "numba" in loaded("import engine.fast")


def test_the_engine_runs_where_neither_pv_nor_pytest_can_be_imported():
    blocked = "import sys\nfor name in ('pv', 'falsifiers', 'pytest'): sys.modules[name] = None\n"
    assert "numba" in loaded(
        blocked + "import engine.cli, engine.fast, engine.inspection, engine.tokenizer, engine.diff"
    )
