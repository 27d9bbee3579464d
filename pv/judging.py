"""Which findings of a run count, by the settings of the project. The disk is asked only for which files there are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

from pv.baseline import Key, key_of, lines_of
from pv.findings import NOTE, RULES, Finding, Rule
from pv.places import contracts_in, meant, meets_a_file, place_of, shown
from pv.settings import ABOUT_SETTINGS, EXPIRED, GONE, OFF, STALE, Settings, Suppression, fixed


@dataclass(frozen=True, slots=True)
class Run:
    """What a run looked at: the files that it measured, whether it asked the rules of `pv lint` too, and imported."""

    files: Sequence[str]
    lint: bool = False
    imports: bool = False


class Judged(NamedTuple):
    """Findings that count, those that a suppression takes out, and those that the baseline holds."""

    counts: tuple[Finding, ...]
    suppressed: tuple[tuple[Finding, Suppression], ...] = ()
    known: tuple[Finding, ...] = ()


def judge(findings: Iterable[Finding], settings: Settings, run: Run, today: date) -> Judged:
    """Give findings the severities of the settings, and take out what is suppressed or known.

    Settings that are idle or past their date are findings too; these come last, and are neither suppressed nor known.
    """
    counts = _relevelled(findings, settings)
    about: list[Finding] = []
    suppressed: list[tuple[Finding, Suppression]] = []
    known: list[Finding] = []
    if settings.suppressions or settings.known:
        seen = _Seen(settings, run, counts)
        counts, suppressed = _suppress(counts, settings, today, seen, about)
        counts, known = _split(counts, settings, seen, about)
    return Judged((*counts, *_relevelled(about, settings)), tuple(suppressed), tuple(known))


def renewed(judged: Judged, settings: Settings, run: Run, *, accept_new: bool) -> Counter[Key]:
    """The baseline for what a run found: no more than it holds already, unless new findings are accepted.

    What the run did not see stays as it was. Notes are no part of a baseline, nor is what makes a file no contract.
    """
    found = Counter(
        key_of(at, settings.root) for at in (*judged.counts, *judged.known) if at.severity != NOTE and _may_be_known(at)
    )
    seen, old = _Seen(settings, run, judged.counts), settings.known
    unseen = Counter({key: count for key, count in old.items() if not seen.all_of(key.rule, key.path)})
    return found | unseen if accept_new else (found | unseen) & old


def _may_be_known(found: Finding) -> bool:
    return not fixed(RULES[found.rule]) and RULES[found.rule] not in ABOUT_SETTINGS


def _relevelled(findings: Iterable[Finding], settings: Settings) -> list[Finding]:
    levels = settings.severity
    if not levels:
        return list(findings)
    moved = (replace(found, severity=levels.get(found.rule, found.severity)) for found in findings)
    return [found for found in moved if found.severity != OFF]


class _Seen:
    """What a run could have found: in a file that holds no contract, no rule was asked."""

    def __init__(self, settings: Settings, run: Run, findings: Iterable[Finding]) -> None:
        self.settings, self.run = settings, run
        unread = {found.path for found in findings if fixed(RULES[found.rule])}
        self.places = {place_of(path, settings.root) for path in run.files if path not in unread}

    def all_of(self, rule: str, glob: str) -> bool:
        """Whether the run would have found what breaks a rule in the files of a glob, had there been anything.

        It has to ask the rule, and to measure every such file; for a rule between contracts, all of the project's.
        """
        if rule not in RULES:
            return True  # of another version: no run finds it any more
        if (RULES[rule].lint and not self.run.lint) or (RULES[rule].imports and not self.run.imports):
            return False
        if RULES[rule].across:
            contracts = place_of(str(self.settings.contracts), self.settings.root)
            inside = contracts_in(self.settings.root, f"{contracts}/**")
            if not inside or not self.places.issuperset(inside):
                return False
        return self.places.issuperset(contracts_in(self.settings.root, glob))


def _suppress(
    findings: Sequence[Finding], settings: Settings, today: date, seen: _Seen, about: list[Finding]
) -> tuple[list[Finding], list[tuple[Finding, Suppression]]]:
    counts: list[Finding] = []
    suppressed: list[tuple[Finding, Suppression]] = []
    used: set[Suppression] = set()
    for found in findings:
        place = place_of(found.path, settings.root)
        mine = [entry for entry in settings.suppressions if entry.matches(found, place)]
        used.update(mine)
        valid = next((entry for entry in mine if today <= entry.until), None)
        if valid is None:
            counts.append(found)
        else:
            suppressed.append((found, valid))
    for entry in settings.suppressions:
        if entry not in used and seen.all_of(entry.rule, entry.path):
            about.append(_about(STALE, shown(settings.file), entry.line, *_idle(entry, settings)))
        elif entry in used and today > entry.until:
            what = f"the suppression of {entry.rule} in {entry.path} ended with {entry.until}"
            about.append(
                _about(EXPIRED, shown(settings.file), entry.line, what, "mend what it is about, or decide anew")
            )
    return counts, suppressed


def _idle(entry: Suppression, settings: Settings) -> tuple[str, str]:
    """What is wrong with a suppression that nothing needs, and what to do."""
    if meets_a_file(settings.root, entry.path):
        return f"no finding of {entry.rule} in {entry.path} is left to suppress", "take the suppression out"
    other = meant(settings.root, place_of(str(settings.contracts), settings.root), entry.path)
    near = f"did you mean {other!r}? Mend the path" if other else "mend the path, from the folder of pyproject.toml"
    return f"no file matches the path {entry.path!r}, so {entry.rule} is suppressed in none", f"{near}, or take it out"


def _split(
    findings: Sequence[Finding], settings: Settings, seen: _Seen, about: list[Finding]
) -> tuple[list[Finding], list[Finding]]:
    left = settings.known.copy()
    counts: list[Finding] = []
    known: list[Finding] = []
    for found in findings:
        key = key_of(found, settings.root)
        if left[key] > 0 and _may_be_known(found):
            left[key] -= 1
            known.append(found)
        else:
            counts.append(found)
    gone = [key for key in sorted(settings.known) if left[key] > 0 and seen.all_of(key.rule, key.path)]
    if gone and settings.baseline is not None:
        lines = lines_of(settings.baseline, settings.known)
        for key in gone:
            times = f"{left[key]} of {settings.known[key]} times" if left[key] < settings.known[key] else "any more"
            what = f"{key.rule} does not occur {times} in {key.path}: {key.message}"
            hint = "take it out with --write-baseline"
            about.append(_about(GONE, shown(settings.baseline), lines.get(key, 1), what, hint))
    return counts, known


def _about(rule: Rule, path: str, line: int, message: str, hint: str) -> Finding:
    return Finding(rule.id, rule.severity, path, line, 1, message, hint)
