"""Commands of `apr` in modules of their own: each has `arguments` and `run`, and loads what it needs when it runs."""

import sys

MODEL = (
    "a GGUF file, a folder of the Hugging Face layout (safetensors), a registered name, or a pulled OWNER/NAME[:FILE]"
)
"""What a command that takes any model says about it."""


def note(text: str) -> None:
    """A line beside the result: standard error, so that the result can be piped."""
    print(f"apr: {text}", file=sys.stderr)
