"""Whether the bytecode that Python has put by of a module is that of its source.

Digests are of sources. Python runs a file of __pycache__ in place of the source if the size and the time of the source
stand in it, or if it says that it need not be checked: such a file can hold anything, and whoever reads the source does
not see it.
"""

import ast
import marshal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path
from types import CodeType
from typing import Any

from pv.errors import PvError
from pv.mentions import Stamp, settled, stamp

HASHED, CHECKED = 1, 2  # the flags of PEP 552
HEADER = 16
REWRITE = "_pytest.assertion.rewrite"


def check_bytecode(files: Iterable[Path]) -> None:
    """PvError for the first module whose bytecode would be run, and is not what its source compiles to."""
    for file in files:
        for kept, kind in _kept(file) if file.suffix == ".py" else ():
            try:
                stamps = stamp(file), stamp(kept)
            except PvError:  # as a rule there is none
                continue
            if not (_agrees if settled(*stamps) else _agrees.__wrapped__)(file, kept, kind, stamps):
                raise PvError(
                    f"holds other code than {file}: Python runs it in place of the source, which is what is digested",
                    where=str(kept),
                    hint=f"remove {kept.parent}, which Python makes anew, and keep it out of the repository",
                )


def _kept(file: Path) -> Iterator[tuple[Path, int]]:
    """The files that may be run in place of a source, with how they are compiled: a level of -O, or -1 for pytest."""
    for level in (0, 1, 2):
        yield Path(cache_from_source(str(file), optimization=level or "")), level
    if rewrite := sys.modules.get(REWRITE):
        yield rewrite.get_cache_dir(file) / f"{file.stem}{rewrite.PYC_TAIL}", -1


@lru_cache(maxsize=4096)
def _agrees(file: Path, kept: Path, kind: int, stamps: tuple[Stamp, Stamp]) -> bool:
    data, source = kept.read_bytes(), file.read_bytes()
    if data[:4] != MAGIC_NUMBER or not _is_taken(data, source, int(file.stat().st_mtime)):
        return True  # Python compiles the source
    compiled: Callable[[bytes, Path, int], CodeType] = _compiled if kind >= 0 else rewritten
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(marshal.loads(data[HEADER:]) == compiled(source, file, kind))
    except (ValueError, EOFError, TypeError):
        return False


def _is_taken(data: bytes, source: bytes, modified: int) -> bool:
    flags = int.from_bytes(data[4:8], "little")
    if flags & HASHED:
        return not flags & CHECKED or data[8:HEADER] == source_hash(source)
    told = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    return tuple(told) == (modified & 0xFFFFFFFF, len(source) & 0xFFFFFFFF)


def _compiled(source: bytes, file: Path, level: int) -> CodeType:
    code: CodeType = compile(source, str(file), "exec", dont_inherit=True, optimize=level)
    return code


def rewritten(source: bytes, file: Path, _: int = -1) -> CodeType:
    """As pytest compiles a module whose asserts it explains."""
    rewrite: Any = sys.modules[REWRITE]
    hook = next((finder for finder in sys.meta_path if isinstance(finder, rewrite.AssertionRewritingHook)), None)
    tree = ast.parse(source, filename=str(file))
    rewrite.rewrite_asserts(tree, source, str(file), hook.config if hook else None)
    code: CodeType = compile(tree, str(file), "exec", dont_inherit=True)
    return code
