"""Print the JSON Schema of contracts (draft 2020-12), for editors and other tools.

    pv schema > contract.schema.json

An editor with yaml-language-server checks a contract while it is written if the file begins with the line

    # yaml-language-server: $schema=../contract.schema.json

The schema says what PV-TYPE-001 to PV-TYPE-003 ask and nothing more: pv validate asks the rest.
"""

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(args: argparse.Namespace) -> int:
    import json

    from pv.schema import contract_schema

    print(json.dumps(contract_schema(), indent=2))
    return 0
