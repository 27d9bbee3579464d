"""`pv completion`: scripts that complete commands, made by shtab from the parser itself."""

import argparse
from collections.abc import Iterator, Sequence

import shtab

FILES = ("PATH", "FILE", "OLD", "NEW")
"""What arguments are called that take files."""


RULES = {
    "bash": """_pv_rules() {{
  compgen -W "{ids}" -- "$(printf %s "$1" | tr '[:lower:]' '[:upper:]')"
}}""",
    "zsh": """_pv_rules() {{
  compadd -M 'm:{{[:lower:]}}={{[:upper:]}}' -- {ids}
}}""",
}
"""Functions that complete the ids of rules, typed in any case, to their own; fish does that by itself."""


def script(parser: argparse.ArgumentParser, shell: str, rules: Sequence[str]) -> str:
    """The script for a shell: commands, flags, choices, files, and the ids of rules. The parser is changed for it."""
    ids = " ".join(rules)
    for action in _actions(parser):
        if action.metavar == "RULE":
            action.complete = {"bash": "_pv_rules", "zsh": "_pv_rules", "fish": ids}  # type: ignore[attr-defined]
        elif action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell, preamble=RULES.get(shell, "").format(ids=ids))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
