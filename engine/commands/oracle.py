"""Save the stages of the prompt's forward pass as another engine computes them, to compare with a trace of ours."""

import argparse
from contextlib import closing
from typing import Any

from engine import stages
from engine.commands import MODEL, note
from engine.errors import EngineError
from engine.oracles import MODULES, Oracle, open_oracle
from engine.outputs import folder_at

EXAMPLE = (
    "example: apr oracle transformers tiny-qwen2 --output hf, apr trace tiny-qwen2 --save-tensor all --output ours, "
    "apr diff --values ours hf; needs the extra of the oracle's name: pip install 'pv-contracts[transformers]'"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument("oracle", choices=tuple(MODULES), metavar="ORACLE", help=f"one of: {', '.join(MODULES)}")
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("--output", required=True, metavar="DIR", help="a trace folder; made if missing, never cleaned")
    parser.add_argument("--prompt", default="What is 2+2?", metavar="TEXT", help="default: %(default)r")
    parser.add_argument(
        "--dtype",
        metavar="TYPE",
        help="what transformers computes in: float32 (default), float16 or bfloat16; llama-cpp has no such choice",
    )
    parser.add_argument(
        "--save-tensor", default="all", metavar="STAGES", help="all (default), or some of them, as in `apr trace`"
    )
    parser.add_argument(
        "--layer",
        metavar="START..END",
        help="layers START to END - 1 (default: all); whole-model stages are saved regardless",
    )


def run(args: argparse.Namespace) -> int:
    folder = folder_at("--output", args.output)
    chosen = stages.parse_stages(args.save_tensor)  # before the model is loaded: a typo must not cost a minute
    layers = stages.parse_layers(args.layer) if args.layer is not None else None
    options = _options(args)
    from engine.generate import check_prompt
    from engine.opening import identity_beside, open_model
    from engine.oracles import fit
    from engine.registry import locate
    from engine.trace_folder import TraceWriter

    place = locate(args.model)
    with identity_beside(place) as sha256:
        opened = open_model(place)
        config = opened.model.config
        layers = stages.layers_within(layers, config.n_layers)
        tokens = opened.tokenizer.encode(args.prompt)
        check_prompt(tokens, config.context)
        with closing(open_oracle(args.oracle, place, **options)) as oracle:
            given = [stage for stage in chosen if stage not in oracle.missing]
            lacking = ", ".join(stage for stage in chosen if stage in oracle.missing)
            if not given:
                raise EngineError(f"{oracle.name} cannot give {lacking}", where="--save-tensor", hint="choose others")
            with TraceWriter(folder, stages=given, layers=layers) as writer:
                for (stage, layer), array in fit.fitting(oracle, opened.model, tokens).items():
                    writer.tap(stage, layer, array)
                manifest = writer.finish(
                    engine=oracle.engine,
                    model={"name": config.name, "sha256": sha256(), "architecture": config.architecture},
                    prompt=args.prompt,
                    tokens=tokens,
                    path=oracle.name,
                    variant=oracle.variant,
                    missing=oracle.missing,
                )
            lines = [*oracle.notes, *_differences(oracle, args.prompt, tokens)]
    print(f"{len(manifest.tensors)} tensors in {folder}")
    note(f"oracle {oracle.name}, {oracle.variant}, {oracle.engine}; {len(tokens)} tokens {_listed(tokens)}")
    for line in lines:
        note(line)
    if lacking:
        note(f"{oracle.name} cannot give, and the folder lacks: {lacking}")
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    if args.dtype is None:
        return {}
    if args.oracle != "transformers":
        raise EngineError(f"{args.oracle} chooses its types by itself", where="--dtype", hint="leave it out")
    return {"dtype": args.dtype}


def _differences(oracle: Oracle, prompt: str, tokens: list[int]) -> list[str]:
    """A line if the oracle's own tokenizer reads the prompt otherwise: our tokens were computed with, as in a trace."""
    try:
        theirs = oracle.tokens(prompt)
    except EngineError as error:
        return [f"tokens were not compared: {error.args[0]}"]
    if theirs == tokens:
        return []
    return [f"{oracle.name} itself reads the prompt as other tokens: {_listed(theirs)}; ours were run"]


def _listed(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))
