"""Tell what a rule asks and why, with a contract that breaks it and one that keeps it. Without RULE, list all rules."""

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", nargs="?", metavar="RULE", help="the id of a rule, such as SCHEMA-004; in any case")


def run(args: argparse.Namespace) -> int:
    from pv import rules
    from pv.catalog import ASKED_BY, LEFT_OUT, gone_to
    from pv.errors import PvError
    from pv.explain import as_text, suggested
    from pv.findings import RULES
    from pv.report import printable

    assert rules.RULE_MODULES  # whose import fills the table
    if args.rule is None:
        width = max(map(len, RULES))
        for rule in sorted(RULES.values(), key=lambda rule: rule.id):
            print(f"{rule.id:{width}}  {rule.severity:7}  {'lint' if rule.lint else 'validate':8}  {rule.what}")
        return 0
    rule_id = args.rule.upper()
    if rule_id in LEFT_OUT:
        raise PvError(f"{rule_id} {gone_to(rule_id)}")
    if rule_id not in RULES and rule_id not in ASKED_BY:
        meant = suggested(rule_id, (*RULES, *ASKED_BY, *LEFT_OUT))
        hint = f"did you mean {meant!r}?" if meant else "pv explain, without a rule, lists them"
        raise PvError(f"there is no rule {args.rule!r}", hint=hint)
    names = ASKED_BY.get(rule_id, (rule_id,))
    if rule_id in ASKED_BY:
        print(f"{rule_id} {gone_to(rule_id)}\n")
    for line in "\n\n".join(as_text(RULES[name]) for name in names).splitlines():
        print(printable(line))
    return 0
