"""Save the tensors of named stages of the prompt's forward pass."""

import argparse
from importlib.metadata import version

from engine import stages
from engine.commands import (
    DEFAULT_MODEL,
    MODEL_OR_DEFAULT,
    encode,
    execution_arguments,
    note,
    open_with_tokenizer,
    served_by,
)
from engine.errors import EngineError
from engine.outputs import folder_at

PAYLOAD_SWITCH = object()


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_OR_DEFAULT)
    parser.add_argument(
        "--payload",
        nargs="?",
        const=PAYLOAD_SWITCH,
        metavar="MODEL",
        help="before the model, as the public tool has it",
    )
    parser.add_argument(
        "--save-tensor",
        required=True,
        metavar="STAGES",
        help=f"all, or some of: {', '.join(stages.NAMES)}; layer_output is post_ffn_residual",
    )
    parser.add_argument(
        "--output",
        "--save-tensor-dir",
        metavar="DIR",
        help="default: <model-stem>-trace/; made if missing, never cleaned",
    )
    parser.add_argument(
        "--layer",
        "--save-tensor-layers",
        metavar="START..END",
        help="layers START to END - 1 (default: all); whole-model stages are saved regardless",
    )
    execution_arguments(parser)


def run(args: argparse.Namespace) -> int:
    named = None if args.output is None else folder_at("--output", args.output)
    chosen = stages.parse_stages(args.save_tensor)  # before the model is loaded: a typo must not cost a minute
    layers = stages.parse_layers(args.layer) if args.layer is not None else None
    from engine import trace_folder
    from engine.generate import check_prompt
    from engine.opening import identity_beside
    from engine.paths import open_path
    from engine.registry import locate

    place = locate(traced_model(args))
    with identity_beside(place) as sha256:
        model, tokenizer = open_with_tokenizer(str(place))
        layers = stages.layers_within(layers, model.config.n_layers)
        prompt = encode(tokenizer, args.prompt, chat=False)
        check_prompt(prompt, model.config.context)
        path = open_path(
            model,
            args.path,
            capacity=len(prompt),
            threads=args.threads,
            variant=args.variant,
            kv_cache=args.kv_cache,
            tell=note,
        )
        folder = named or trace_folder.default_folder(model.path)
        with trace_folder.TraceWriter(folder, stages=chosen, layers=layers) as writer:
            path.forward(prompt, tap=writer.tap)
            manifest = writer.finish(
                engine=version("pv-contracts"),
                model={
                    "name": model.config.name,
                    "sha256": sha256(),
                    "architecture": model.config.architecture,
                },
                prompt=args.prompt,
                tokens=prompt,
                path=path.name,
                variant=path.variant,
                kv_cache=path.kv_cache,
            )
    print(f"{len(manifest.tensors)} tensors in {folder}")
    note(f"{served_by(path)}; {len(prompt)} tokens {' '.join(map(str, prompt))}")
    return 0


def traced_model(args: argparse.Namespace) -> str:
    """The one model that is named: plainly, after --payload, or the default."""
    named = [name for name in (args.model, args.payload) if name not in (None, PAYLOAD_SWITCH)]
    if len(named) > 1:
        raise EngineError(f"two models are named: {' and '.join(named)}", where="--payload", hint="name one")
    return str(named[0]) if named else DEFAULT_MODEL
