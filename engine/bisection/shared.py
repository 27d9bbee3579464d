"""What two sides have in common: a fault there is on both, and no comparison of them shows it.

An execution path, and a folder that one wrote, have their model by our reader, our configuration and our tokenizer. An
engine that is not ours reads the file and the prompt by itself; `apr oracle` hands it our tokens instead. What it takes
from us all the same is the order of what is compared: Transformers leaves the rows of a llama's Q and K in its own,
which our configuration tells how to undo, and what llama.cpp shows is cut by our configuration's sizes.
"""

from engine.bisection.sides import FolderSide, OracleSide, PathSide, Side
from engine.opening import is_single
from engine.trace_folder import OWN

OURS = "ours"
_COPIED = {
    "transformers": "the order in which its queries and keys are read (our configuration's)",
    "llama-cpp": "the sizes by which its stages are cut, and whether Q, K and V have a bias (our configuration's)",
}


def beside_itself(a: Side, b: Side, same_model: bool) -> str:
    """What it means that both sides run one and the same; "" where they do not."""
    if isinstance(a, FolderSide) or isinstance(b, FolderSide) or not same_model:
        return ""
    if (a.spec.engine, _variant(a)) != (b.spec.engine, _variant(b)):
        return ""
    pieces = isinstance(a, PathSide) and isinstance(b, PathSide) and a.split != b.split
    return "a side beside itself tests determinism alone" + (" (here of a prompt in pieces, too)" if pieces else "")


def not_tested(a: Side, b: Side, same_model: bool, tokens: int) -> list[str]:
    """What comparing these sides cannot show, a line each; of a prompt of so many tokens."""
    lines = []
    if not beside_itself(a, b, same_model):
        lines += _in_common(a, b, same_model)
    fast = [side for side in (a, b) if isinstance(side, PathSide) and side.spec.engine == "fast"]
    if any(max(side.parts(tokens)) == 1 for side in fast):
        lines.append(f"the fast path's kernels for several tokens at once: of {tokens}, each is run alone")
    return lines


def _in_common(a: Side, b: Side, same_model: bool) -> list[str]:
    readers = [_reader(side) for side in (a, b)]
    parts, remedy = [], ""
    if readers == [OURS, OURS]:
        both = [side.model.path for side in (a, b) if side.model is not None]
        alike = same_model or len({is_single(path) for path in both}) == 1
        parts = ["the reader", "the configuration", "the tokenizer"]
        if not alike:
            parts = ["what our readers and tokenizers of both formats have in common"]
        if (path := _path(a)) == _path(b):
            parts.append(f"the path {path} (but for what changed in it between the two runs)")
        remedy = "; an oracle of another engine tests them"
    else:
        if readers[0] == readers[1]:
            parts.append(f"all of {readers[0]} but the dtype of its arithmetic")
        elif same_model:
            parts.append("the file")
        if all(isinstance(side, (PathSide, FolderSide)) for side in (a, b)):
            parts.append("the tokenizer (`apr oracle` runs our tokens)")
            remedy = "; MODEL@transformers or MODEL@llama-cpp reads the prompt by itself"
        parts += [_COPIED[name] for name in dict.fromkeys(readers) if name != OURS]
    return [f"what both sides share: {', '.join(parts)}{remedy}"]


def _reader(side: Side) -> str:
    """Whose reading of the model a side's stages come from."""
    path = _path(side)
    return OURS if path in OWN else path


def _path(side: Side) -> str:
    return side.manifest.path if isinstance(side, FolderSide) else side.spec.engine


def _variant(side: PathSide | OracleSide) -> str:
    return side.oracle.variant if isinstance(side, OracleSide) else ""
