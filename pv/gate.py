"""`pv gate --base REF`: what a branch would take away from the ledger, compared with where it left REF.

Compared are the merge base of REF and HEAD and the working tree. Each of the two is judged by its own contracts, code
and evidence. What a contract loses on purpose it says in its changelog (pv.changelog); that is shown with its reason.

JSON (`--format json`), keys in this order, "schema" changes when a key changes its meaning:

    {"schema": "pv-gate/1", "verdict": "accept" | "reject" | "decline", "base": {name, commit},
     "totals": {contracts_base, contracts_head, tests_base, tests_head, tests_compared, versions_judged, versions_same,
                evidence_base, evidence_kept, findings, accepted, not_compared},
     "findings": [FINDING], "accepted": [FINDING and version, reason, changelog_line],
     "declined": [{path, reason}], "notes": [{path, line, contract, test, role, base, head, comparisons_base,
     comparisons_head}]}
    FINDING = {id, path, line, contract, test, message, hint}

contract and test are "" where a finding is about none; docs/ledger.md lists the ids. notes are falsifiers whose code
changed: base and head are their names, and the numbers of comparisons null where no evidence of today tells.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pv import git
from pv.at_revision import Version, version_at, working_tree
from pv.changelog import PROJECT, Entry, acceptance, accepted_by
from pv.config import Config, find
from pv.contract import Contract
from pv.diff import Verdict as Diff
from pv.diff import diff
from pv.gate_checks import demotions, losses, lost_contracts, retirements, standing, versions
from pv.gate_evidence import ahead_of_the_clock, digests, evidence, kept, released
from pv.gate_settings import Asked, settings
from pv.gate_sides import ACCEPTED_AS, GOAL, SETTING, Finding, Sides
from pv.gate_tolerances import tolerances
from pv.gate_trials import first_party, weakened
from pv.ledger_diff import unread
from pv.status import survey
from pv.trial_changes import Changed, changed_falsifiers
from pv.validate import ACCEPT, DECLINE, REJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a run.

    findings  what rejects; accepted: what would, each with the entry of the changelog that accepts it
    declined  (path, reason) of what was not compared
    notes     falsifiers whose code changed, which is for a reviewer to judge
    """

    ref: str
    base: Version
    root: Path
    findings: tuple[Finding, ...]
    accepted: tuple[tuple[Finding, Entry], ...]
    declined: tuple[tuple[str, str], ...]
    contracts: tuple[int, int]
    tests: tuple[int, int]
    compared: int
    judged: int
    same: int
    files: tuple[int, int]
    notes: tuple[Changed, ...]

    @property
    def code(self) -> int:
        """What is wrong rejects, whatever else was not compared; without any contract in the base nothing was."""
        if self.findings:
            return REJECT
        return DECLINE if self.declined or not self.contracts[0] else ACCEPT


def gate(ref: str, here: Path) -> Verdict:
    """Judge the working tree of the project around a folder. PvError where there is nothing to compare with."""
    config = find(here)
    top = git.root(config.root)
    base = git.merge_base(top, git.commit(top, ref), git.commit(top, "HEAD"))
    with version_at(base, config.root) as version:
        # A branch cannot say itself whom to trust: a key that it adds counts from its merge on.
        head = survey(replace(config, trusted_keys=version.config.trusted_keys or config.trusted_keys))
        old = survey(version.config)
        files = digests(version.config.evidence)
        changes = _changes(config, version, base)
        sides = Sides(
            base=old,
            head=head,
            renamed={
                Path(found.old).stem: found.stem
                for found in changes.compared
                if found.old is not None and found.new is not None and Path(found.old).stem != found.stem
            },
            plain=version.plain,
        )
        found = [
            *standing(sides),
            *demotions(sides),
            *losses(sides),
            *tolerances(sides),
            *weakened(sides, (version.config, config)),
            *lost_contracts(sides, changes),
            *retirements(sides),
            *versions(sides, changes),
            *ahead_of_the_clock(sides, config),
            *evidence(sides, files, digests(config.evidence), config, released(head.evidence)),
        ]
        ours = working_tree(config)
        plain = [replace(each, message=ours.plain(each.message)) for each in found]
        declined = [(f"{version.title}: {path}", why) for path, why in unread(version, old)]
        if not config.contracts.is_relative_to(os.path.realpath(top)):
            declined.append((ours.title, "its folder of contracts lies outside of the repository"))
        asked = settings(version, config, sides)
        rejected, accepted = _sorted_out([*plain, *asked.findings], sides, asked)
        declined += asked.declined
        declined += [(path.replace(base, base[:12]), why) for path, why in changes.declined]
        notes = tuple(changed_falsifiers([(old, new) for _, old, new in sides.pairs], (version.config, config)))
    return Verdict(
        ref=ref,
        base=version,
        root=config.root,
        findings=tuple(rejected),
        accepted=tuple(accepted),
        declined=tuple(declined),
        contracts=(len(old.contracts), len(head.contracts)),
        tests=(len(old.rows), len(head.rows)),
        compared=len(sides.pairs),
        judged=len(changes.compared),
        same=changes.same,
        files=(len(files), kept(files, digests(config.evidence))),
        notes=notes,
    )


def _changes(config: Config, version: Version, base: str) -> Diff:
    """What `pv diff` says about the contracts of both versions, wherever each has its folder of them."""
    inner = os.path.relpath(version.config.contracts, version.config.root)
    folders = dict.fromkeys((os.path.relpath(config.contracts, config.root), inner))
    both = [folder for folder in folders if not any(_below(folder, other) for other in folders if other != folder)]
    return diff(base, both, config.root)


def _below(folder: str, other: str) -> bool:
    return other == "." or folder.startswith(f"{other}/")


def _sorted_out(
    found: Sequence[Finding], sides: Sides, asked: Asked
) -> tuple[list[Finding], list[tuple[Finding, Entry]]]:
    """What rejects, with a word on a changelog that tries and fails to accept it; and what is accepted."""
    rejected, accepted = [], []
    for finding in found:
        entry, why = _acceptance(finding, sides, asked)
        if entry is not None:
            accepted.append((finding, entry))
        else:
            rejected.append(finding.because(why) if why else finding)
    return rejected, accepted


def _acceptance(finding: Finding, sides: Sides, asked: Asked) -> tuple[Entry | None, str]:
    if finding.id in (SETTING, GOAL):
        return accepted_by(asked.head, asked.base, finding.test, PROJECT)
    kind, head = ACCEPTED_AS.get(finding.id), sides.contract(finding.contract)
    if kind is None or head is None:
        return None, ""
    entry, why = acceptance(head, _before(sides, head), finding.test or finding.contract, kind)
    if entry is None and finding.package:
        entry, told = accepted_by(asked.head, asked.base, first_party(finding.package), PROJECT)
        why = why or told
    return entry, why


def _before(sides: Sides, head: Contract) -> Contract | None:
    return next((old for old in sides.base.contracts if sides.stem(old.stem) == head.stem), None)
