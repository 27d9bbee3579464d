"""Find the stage in which two sides part for no honest reason, and prove it."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands import MODEL, kv_cache_argument, note
from engine.errors import EngineError
from engine.variants import VARIABLE, VARIANTS

if TYPE_CHECKING:
    from engine.bisection.measured import TokenDifference
    from engine.bisection.naming import Spec
    from engine.bisection.sides import Side
    from engine.opening import Opened

DEFAULT_PROMPT = (
    "A keeper of a lighthouse finds a letter in a bottle. Tell what it says, who wrote it in the year 1872 and why, "
    "and let the last sentence explain why the first one was not true."
)
"""More than 32 tokens in any vocabulary: some faults show only past the sixteenth position, or in a second vector."""
EXAMPLE = (
    "example: apr bisect smollm2-135m smollm2-135m@transformers --report report.html; exit codes: 0 EQUAL or "
    "WITHIN_FLOOR, 1 DIVERGES, 2 CANNOT_TELL or wrong input"
)
SIDE = "a model with what runs it: MODEL@fast, MODEL@reference, MODEL@transformers[:DTYPE], MODEL@llama-cpp"
SAME = ("architecture", "n_layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "pairing")
"""What two models must share for their stages to mean the same."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument(
        "subject",
        metavar="SUBJECT",
        help=f"{SIDE}; or a folder of stages (apr trace, apr oracle); MODEL alone is MODEL@fast. MODEL: {MODEL}",
    )
    parser.add_argument(
        "oracle",
        nargs="?",
        metavar="ORACLE",
        help="the side that is held to be right, written in the same way (alone: MODEL@reference; default: the "
        "subject's model in the reference path)",
    )
    parser.add_argument(
        "--prompt", metavar="TEXT", help="default: that of a folder of stages, or else one of some forty words"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the fast path (default: all cores)")
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help=f"kernels of the fast path: {', '.join(VARIANTS)} (default: ${VARIABLE}, or else the fastest of this CPU)",
    )
    kv_cache_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object (schema apr-bisect/1)")
    parser.add_argument("--report", metavar="FILE.html", help="write a page to read, too: one file, no network")


def run(args: argparse.Namespace) -> int:
    from importlib.metadata import version

    from engine.bisection.naming import FOLDER, parse
    from engine.bisection.page import page
    from engine.bisection.report import BisectReport
    from engine.bisection.run import bisect
    from engine.bisection.shared import beside_itself, not_tested
    from engine.outputs import file_at, replace_file

    report_file = None if args.report is None else file_at("--report", args.report)
    subject = parse(args.subject, "fast")
    if args.oracle is None and (subject.engine in (FOLDER, "reference")):
        raise EngineError("there is nothing to compare it with", where=args.subject, hint="name an ORACLE as well")
    oracle = parse(f"{subject.model}@reference" if args.oracle is None else args.oracle, "reference")
    _check_flags(args, (subject.engine, oracle.engine))
    sides = _Sides(args)
    a, b = sides.opened(subject, split=True), sides.opened(oracle, split=oracle.engine != "reference")
    sides.check_pair(a, b)
    prompt = sides.prompt()
    tokens, difference = sides.tokens(prompt)
    try:
        found = bisect(a, b, tokens, difference)
    finally:
        sides.close()
    same_model = sides.identity(a) == sides.identity(b)
    report = BisectReport(
        version=version("pv-contracts"),
        subject=sides.facts(a),
        oracle=sides.facts(b),
        prompt=prompt,
        found=found,
        itself=beside_itself(a, b, same_model),
        not_tested=not_tested(a, b, same_model, len(tokens)),
        command=_command(args, prompt, oracle.text),
    )
    if report_file is not None:
        replace_file(report_file, (page(report).encode(),))
        note(f"page written: {report_file}")
    print(json.dumps(report.as_json()) if args.json else report.as_text())
    return found.verdict.exit_code


def _check_flags(args: argparse.Namespace, engines: tuple[str, ...]) -> None:
    for flag in ("threads", "variant", "kv_cache"):
        if getattr(args, flag) is not None and "fast" not in engines:
            raise EngineError(
                "is of the fast path, and no side is one", where=f"--{flag.replace('_', '-')}", hint="leave it out"
            )


def _command(args: argparse.Namespace, prompt: str, oracle: str) -> list[str]:
    command = ["apr", "bisect", args.subject, oracle, "--prompt", prompt]
    for flag in ("threads", "variant", "kv_cache"):
        if getattr(args, flag) is not None:
            command += [f"--{flag.replace('_', '-')}", str(getattr(args, flag))]
    return command


class _Sides:
    """Both sides, with each model opened once."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.models, self.digests = args, dict[Path, "Opened"](), dict[Path, str]()
        self.sides: list[Side] = []

    def opened(self, spec: "Spec", *, split: bool) -> "Side":
        from engine import oracles
        from engine.bisection.naming import FOLDER
        from engine.bisection.sides import FolderSide, OracleSide, PathSide
        from engine.generate import check_prompt
        from engine.opening import open_model
        from engine.registry import locate

        if spec.engine == FOLDER:
            side: Side = FolderSide(spec)
        else:
            place = locate(spec.model)
            if place not in self.models:
                self.models[place] = open_model(place)
            model = self.models[place].model
            if spec.engine in oracles.MODULES:
                options: dict[str, Any] = {} if spec.dtype is None else {"dtype": spec.dtype}
                side = OracleSide(spec, model, oracles.open_oracle(spec.engine, place, **options))
            else:
                own = ("threads", "variant", "kv_cache") if spec.engine == "fast" else ()
                side = PathSide(spec, model, split, tell=note, **{name: getattr(self.args, name) for name in own})
                side.check()
                if self.args.prompt is not None:  # an oracle may take long to open: what it cannot run is refused now
                    check_prompt(self._tokens(side, self.args.prompt), model.config.context)
        self.sides.append(side)
        return side

    def close(self) -> None:
        """Free what oracles hold."""
        from engine.bisection.sides import OracleSide

        for side in self.sides:
            if isinstance(side, OracleSide):
                side.oracle.close()

    def check_pair(self, a: "Side", b: "Side") -> None:
        """Refuse sides whose stages do not mean the same, and a folder beside itself."""
        from engine.bisection.sides import FolderSide

        if isinstance(a, FolderSide) and isinstance(b, FolderSide) and os.path.samefile(a.spec.model, b.spec.model):
            raise EngineError(
                "both sides are this folder: nothing would be tested",
                where=a.spec.model,
                hint="name the model that was traced, or the folder of another run",
            )
        for side, other in ((a, b), (b, a)):
            if isinstance(side, FolderSide) and other.model is not None:
                side.check(other.model)
        for side, other in ((a, b), (b, a)):
            if isinstance(side, FolderSide) and (mine := self.identity(side)) != (theirs := self.identity(other)):
                raise EngineError(
                    f"its stages are of another model: sha256 {mine[:16]}.., and {other.spec.text} has {theirs[:16]}..",
                    where=side.spec.text,
                    hint="name the model that was traced, or trace this one",
                )
        if a.model is None or b.model is None:
            return
        for name in SAME:
            x, y = (getattr(side.model.config, name) for side in (a, b) if side.model)
            if x != y:
                raise EngineError(
                    f"other models: {name} is {x} in {a.spec.model}, {y} in {b.spec.model}",
                    hint="name the same model on both sides",
                )

    def prompt(self) -> str:
        """That of the command, or of the folders of stages, which must have it."""
        from engine.bisection.sides import FolderSide

        prompt: str | None = self.args.prompt
        for side in self.sides:
            if isinstance(side, FolderSide):
                if prompt is not None and side.manifest.prompt != prompt:
                    raise EngineError(
                        f"its prompt is {side.manifest.prompt!r}, not {prompt!r}",
                        where=side.spec.model,
                        hint="leave --prompt out, or trace this prompt",
                    )
                prompt = side.manifest.prompt
        return DEFAULT_PROMPT if prompt is None else prompt

    def tokens(self, prompt: str) -> "tuple[list[int], TokenDifference | None]":
        """The tokens that both sides run, and where the subject's are others than the oracle's.

        They are the oracle's, unless the subject is a folder, which has only its own.
        """
        from engine.bisection.measured import TokenDifference
        from engine.bisection.sides import FolderSide
        from engine.generate import check_prompt

        mine, right = (self._tokens(side, prompt) for side in self.sides)
        folders = [isinstance(side, FolderSide) for side in self.sides]
        shared = mine if folders[0] else right
        model = self.sides[0].model or self.sides[1].model
        if model is not None:
            where = "--prompt" if prompt != DEFAULT_PROMPT else "--prompt (the default)"
            check_prompt(shared, model.config.context, where=where)
            if max(shared) >= model.config.vocab:
                raise EngineError(
                    f"there is no token {max(shared)} in a model of {model.config.vocab}",
                    where=self.sides[1 - folders[0]].spec.text,
                    hint="name the same model on both sides",
                )
        difference = TokenDifference.between(mine, right)
        if difference is not None and all(folders):
            raise EngineError(
                f"other tokens: {len(mine)} in the subject, {len(right)} in the oracle, the first other at "
                f"{difference.position}",
                where=self.sides[0].spec.text,
                hint="trace the same prompt with the same tokenizer",
            )
        return shared, difference

    def _tokens(self, side: "Side", prompt: str) -> list[int]:
        from engine.bisection.sides import FolderSide, OracleSide

        if isinstance(side, FolderSide):
            return list(side.manifest.tokens)
        if isinstance(side, OracleSide):
            return list(side.oracle.tokens(prompt))
        (opened,) = (one for one in self.models.values() if one.model is side.model)
        return opened.tokenizer.encode(prompt)

    def identity(self, side: "Side") -> str:
        """The sha256 of the model whose stages these are."""
        from engine.bisection.sides import FolderSide
        from engine.opening import sha256_of

        if isinstance(side, FolderSide):
            return side.manifest.model.sha256
        place = side.model.path
        if place not in self.digests:
            self.digests[place] = sha256_of(place)
        return self.digests[place]

    def facts(self, side: "Side") -> dict[str, Any]:
        """What ran, for the report."""
        from engine.bisection.sides import FolderSide

        model = {"file": "", "sha256": self.identity(side)}
        if isinstance(side, FolderSide):
            model |= {"name": side.manifest.model.name, "architecture": side.manifest.model.architecture}
        else:
            config = side.model.config
            model |= {"name": config.name, "architecture": config.architecture, "file": str(side.model.path)}
        return {"side": side.spec.name, **side.facts(), "model": model}
