"""Obtain a registered model, or one of the Hugging Face hub."""

import argparse

from engine.commands import note


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a registered model, for example smollm2-135m; or OWNER/NAME of the Hugging Face hub, for example "
        "Qwen/Qwen2.5-0.5B-Instruct (safetensors), or OWNER/NAME:FILE.gguf; OWNER/NAME@REVISION is another state of it",
    )


def run(args: argparse.Namespace) -> int:
    from engine import registry

    if "/" in args.name:
        from engine import hub

        print(hub.pull(args.name, registry.cache_folder(), note))
    else:
        print(registry.pull(args.name))
    return 0
