"""Print a script that completes the commands, flags and choices of pv in a shell.

bash  source <(pv completion bash)           in ~/.bashrc
zsh   pv completion zsh > ~/.zfunc/_pv        with ~/.zfunc in $fpath
fish  pv completion fish > ~/.config/fish/completions/pv.fish
"""

import argparse

SHELLS = ("bash", "zsh", "fish")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that will read it")


def run(args: argparse.Namespace) -> int:
    from pv import rules
    from pv.cli import build_parser
    from pv.completion import script
    from pv.findings import RULES

    assert rules.RULE_MODULES  # whose import fills the table
    print(script(build_parser(), args.shell, sorted(RULES)), end="")
    return 0
