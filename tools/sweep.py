"""Change the engine line by line and see `pytest --falsify` go red each time.

    python -m tools.sweep                                  # every target below; a night and more on two cores
    python -m tools.sweep engine/aprt.py:pack_header       # one function
    python -m tools.sweep --kinds operator,constant --sample 60

Each change is made in a copy of the project, where the falsifiers' algorithm trials then run. A change that stays green
is printed: either no falsifier looks there, or the line is not needed. Exit code: 0 all red, 1 some green, 2 the trials
are red before anything is changed. A change of a kernel costs a minute, in which all of them are compiled anew.
"""

import argparse
import ast
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = ("forward", "_through", "embed", "normalise", "project", "rotate", "attend", "activate", "logits")
TARGETS = (
    *("engine/aprt.py:pack_header", "engine/aprt.py:write_tensor", "engine/outputs.py:replace_file"),
    *("engine/trace_folder.py:tap", "engine/trace_folder.py:stage_path", "engine/reference.py"),
    *(f"engine/kernels/{name}.py" for name in ("attention", "blocks", "dots", "floats", "heads", "rows", "simd")),
    *("engine/kernels/steps.py", "engine/kernels/tiles.py"),
    *(f"engine/fast.py:{name}" for name in STEPS),
    *("engine/buffers.py:Product", "engine/buffers.py:Rows", "engine/buffers.py:cache"),
    *("engine/numerics.py:cos_sin", "engine/numerics.py:rope_frequencies", "engine/numerics.py:rope_tables"),
)
KINDS = ("delete", "condition", "operator", "constant")
SWAPPED: dict[type[ast.AST], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "%",
    ast.Mod: "//",
    ast.LShift: ">>",
    ast.RShift: "<<",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
}
SPARED = {
    ("engine/kernels/dots.py", "prefetch(b, at(b, here, line))", "pass"): "slower, same bits",
    (
        "engine/kernels/attention.py",
        "prefetch(b, at(b, keys, at(b, times(b, place, SIZES[kind]), ahead)))",
        "pass",
    ): "slower, same bits",
    (
        "engine/kernels/attention.py",
        "prefetch(b, at(b, start, times(b, at(b, place, KEYS_AHEAD * LANES), SIZES[kind])))",
        "pass",
    ): "slower, same bits",
}
"""(file, source, text) of changes that are left out, and why no trial can see them."""
HANGS_AFTER_S = 300


@dataclass(frozen=True, slots=True)
class Change:
    """Replace source[start:end] of a file by other text."""

    file: str
    kind: str
    line: int
    start: int
    end: int
    text: str

    def describe(self, source: str) -> str:
        before = " ".join(source[self.start : self.end].split())
        return f"{self.file}:{self.line}: {self.kind}: {before[:70]} -> {self.text}"


def changes(file: str, source: str, name: str | None, kinds: Sequence[str]) -> Iterator[Change]:
    """Every change of these kinds in a file, or in one function or class of it."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def change(kind: str, first: ast.AST, last: ast.AST, text: str) -> Change:
        begin = starts[first.lineno - 1] + first.col_offset  # type: ignore[attr-defined]
        end = starts[last.end_lineno - 1] + last.end_col_offset  # type: ignore[attr-defined]
        return Change(file, kind, first.lineno, begin, end, text)  # type: ignore[attr-defined]

    def between(kind: str, left: ast.expr, right: ast.expr, text: str) -> Iterator[Change]:
        """The operator between two operands, whatever brackets stand there."""
        begin = starts[left.end_lineno - 1] + left.end_col_offset  # type: ignore[operator]
        gap = source[begin : starts[right.lineno - 1] + right.col_offset]
        found = re.search(r"(<<|>>|//|<=|>=|==|!=|[-+*/%&|<>])", gap)
        if found:
            yield Change(file, kind, left.lineno, begin + found.start(), begin + found.end(), text)

    tree: ast.AST = ast.parse(source)
    if name is not None:
        named = [node for node in ast.walk(tree) if getattr(node, "name", None) == name]
        if not named:
            raise SystemExit(f"{file} has no function or class {name!r}")
        tree = named[0]
    for outer in ast.walk(tree):
        if not isinstance(outer, ast.FunctionDef):
            continue
        for node in (inner for statement in outer.body for inner in ast.walk(statement)):
            if "delete" in kinds and isinstance(node, ast.Assign | ast.AugAssign | ast.Expr | ast.Return | ast.Raise):
                if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):  # a docstring
                    yield change("delete", node, node, "pass")
            elif "condition" in kinds and isinstance(node, ast.If | ast.IfExp):
                yield change("condition", node.test, node.test, "False")
                yield change("condition", node.test, node.test, "True")
            elif "operator" in kinds and isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
                yield from between("operator", node.left, node.right, SWAPPED[type(node.op)])
            elif "operator" in kinds and isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
                yield from between("operator", node.left, node.comparators[0], SWAPPED[type(node.ops[0])])
            elif "constant" in kinds and isinstance(node, ast.Constant) and type(node.value) in (int, float):
                yield change("constant", node, node, f"({node.value!r} + 1)")


def spared(change: Change) -> bool:
    source = (ROOT / change.file).read_text(encoding="utf-8")[change.start : change.end]
    return (change.file, source, change.text) in SPARED


def trials(tree: Path) -> list[str]:
    """The nodes of all algorithm trials; those of the kernels come first, since they find most."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--falsify", "--collect-only", "-q", "contracts"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    nodes = [line for line in done.stdout.splitlines() if line.endswith("[algorithm]")]
    return sorted(nodes, key=lambda node: "model-parity" not in node or "-006" not in node)


def is_red(tree: Path, nodes: list[str]) -> bool:
    """Whether the trials of a changed tree fail; hanging is failing."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--falsify", "-x", "-q", "-p", "no:cacheprovider", *nodes],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(tree / ".numba")},
            capture_output=True,
            timeout=HANGS_AFTER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def left_out(folder: str, names: list[str]) -> set[str]:
    """What a copy of the project goes without: the evidence and the tests of its root, and what is hidden or made."""
    top = {"evidence", "tests"} if Path(folder) == ROOT else set()
    return {name for name in names if name.startswith(".") or name == "__pycache__" or name in top}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=TARGETS, help="FILE or FILE:FUNCTION (default: all of the above)")
    parser.add_argument("--kinds", default="delete,condition", help=f"out of {','.join(KINDS)} (default: %(default)s)")
    parser.add_argument("--sample", type=int, help="try this many, chosen at random, instead of all")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trees at a time (default: %(default)s)")
    options = parser.parse_args()
    todo: list[Change] = []
    for target in options.targets:
        file, _, name = target.partition(":")
        todo += changes(file, (ROOT / file).read_text(encoding="utf-8"), name or None, options.kinds.split(","))
    todo = [change for change in dict.fromkeys(todo) if not spared(change)]
    if options.sample is not None and options.sample < len(todo):
        todo = random.Random(options.seed).sample(todo, options.sample)
    print(f"{len(todo)} changes", flush=True)
    green = 0
    with tempfile.TemporaryDirectory() as folder:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for index in range(options.jobs):
            tree = Path(folder) / str(index)
            shutil.copytree(ROOT, tree, ignore=left_out)
            trees.put(tree)
        nodes = trials(tree)
        if is_red(tree, nodes):
            print(f"the {len(nodes)} trials are red before anything is changed", file=sys.stderr)
            return 2

        def attempt(change: Change) -> bool:
            tree = trees.get()
            path, source = tree / change.file, (ROOT / change.file).read_text(encoding="utf-8")
            try:
                path.write_text(source[: change.start] + change.text + source[change.end :], encoding="utf-8")
                return is_red(tree, nodes)
            finally:
                path.write_text(source, encoding="utf-8")
                trees.put(tree)

        with ThreadPoolExecutor(options.jobs) as pool:
            for count, (change, red) in enumerate(zip(todo, pool.map(attempt, todo), strict=True), 1):
                print(f"{count}/{len(todo)}", end="\r", file=sys.stderr, flush=True)
                if not red:
                    green += 1
                    print(f"GREEN  {change.describe((ROOT / change.file).read_text(encoding='utf-8'))}", flush=True)
    print(f"{len(todo) - green} of {len(todo)} changes turn the trials red, {green} stay green")
    return 1 if green else 0


if __name__ == "__main__":
    sys.exit(main())
