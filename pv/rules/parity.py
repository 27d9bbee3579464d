"""Rules of the public tool for ledgers of comparisons (kind competitive-parity), under the same ids.

A ledger has a row per command or function that is compared with a competitor's. A verdict may be a loss; what it may
not do is vanish, hold forever, or rest on a competitor that nobody can fetch again. One rule is ours: PV-PARITY-001.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date

from pv.contract import Contract, Entry
from pv.facts import Facts, Mention, iso_date
from pv.findings import ERROR, WARNING, Hit, again, called, line_of, rule, run_rule
from pv.rules import kinds
from pv.rules.kinds import lacking, one_of
from pv.sections import VERDICTS
from pv.shapes import named

UNMEASURED = "UNMEASURED"
REASONS = (
    "RECEIPT_MISSING",
    "HARNESS_DELETED",
    "MEASUREMENT_UNDATED",
    "COMPETITOR_UNPINNABLE",
    "HOST_UNAVAILABLE",
    "SUPERSEDED",
)
"""Why a row that was measured no longer is."""
MOVING = frozenset(
    ("any", "current", "head", "latest", "main", "master", "na", "tbd", "todo", "unknown", "unpinned", "whatever")
)
"""Words in a version that name whatever is newest, or nothing."""
RUNNERS = ("cargo", "bash", "sh", "make", "pv", "apr", "pytest")
"""What a command begins with; the public tool knows all but the last."""
MAX_DAYS = 180
"""How long a verdict holds, and how far any date may lie ahead."""


def _ledger(contract: Contract) -> Entry | None:
    return contract.root.entry("parity") if contract.kind == "competitive-parity" else None


def _entries(contract: Contract, name: str) -> list[Entry]:
    ledger = _ledger(contract)
    return list(ledger.entries(name)) if ledger else []


@rule("PARITY-000", ERROR, "a ledger of comparisons is no registry")
def no_registry(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    if contract.kind == "competitive-parity" and metadata and metadata.raw.get("registry") is True:
        hint = "remove it: a registry has nothing to prove, and a ledger has"
        yield Hit(metadata.at("registry"), "a ledger of comparisons is called a registry", hint)


@rule("PARITY-001", ERROR, "a ledger of comparisons has rows")
def rows(contract: Contract) -> Iterator[Hit]:
    ledger = _ledger(contract)
    missing = contract.root.raw.get("parity") is None if ledger is None else ledger.raw.get("rows") in (None, [])
    if contract.kind == "competitive-parity" and missing:
        hint = "parity: {rows: [{entry_point: .., competitor: .., competitor_version: .., verdict: .., ..}]}"
        what = (
            "the ledger has no rows"
            if ledger is not None
            else "the contract has no parity, so no ledger of comparisons"
        )
        yield Hit(("parity", "rows"), what, hint)


@rule("PARITY-002", ERROR, "a row has an entry point of its own, in printable ASCII")
def entry_points(contract: Contract) -> Iterator[Hit]:
    entries = _entries(contract, "rows")
    for row in entries:
        yield from _name(row, "entry_point: the command or function that is compared")
    for row, text, first in again(entries, "entry_point"):
        what = f"the row in line {line_of(first, 'entry_point')} is about {text!r} too"
        yield Hit(row.at("entry_point"), what, "keep one of them: two verdicts let the better one hide the other")


@rule("PARITY-003", ERROR, "a row names the competitor")
def competitor(contract: Contract) -> Iterator[Hit]:
    yield from _lacking(contract, "competitor", "competitor: the tool that is compared with")


@rule("PARITY-004", ERROR, "a row pins the competitor's version")
def pinned_version(contract: Contract) -> Iterator[Hit]:
    hint = "competitor_version: a release (0.49.2), a whole commit or a digest"
    for row in _entries(contract, "rows"):
        text = row.text("competitor_version").strip()
        moving = next((word for word in re.split("[^a-z0-9]+", text.lower()) if word in MOVING), None)
        name = named((*row.place, "competitor_version"))
        yield from lacking(row, "competitor_version", hint)
        if moving is not None:
            what = f"{name}: {text!r} pins nothing, {moving!r} is another version tomorrow"
            yield Hit(row.at("competitor_version"), what, hint)
        elif text and not re.search("[0-9]", text):
            yield Hit(row.at("competitor_version"), f"{name}: {text!r} has no digit in it", hint)


@rule("PARITY-005", ERROR, "a row gives both commands that were compared")
def invocations(contract: Contract) -> Iterator[Hit]:
    yield from _lacking(contract, "invocation_apr", "invocation_apr: our command, as it was typed")
    yield from _lacking(
        contract, "invocation_competitor", "invocation_competitor: the other's command, as it was typed"
    )


@rule("PARITY-006", ERROR, "a row has a verdict")
def verdicts(contract: Contract) -> Iterator[Hit]:
    for row in _entries(contract, "rows"):
        yield from lacking(row, "verdict", f"verdict: one of {', '.join(VERDICTS)}")


@rule("PARITY-007", ERROR, "a row says when it was measured and, later than that, until when it is valid")
def row_dates(contract: Contract) -> Iterator[Hit]:
    for row in _entries(contract, "rows"):
        yield from _period(row, "measured_on", "valid_until")


@rule("PARITY-008", ERROR, "a row has an owner")
def row_owner(contract: Contract) -> Iterator[Hit]:
    yield from _lacking(contract, "owner", "owner: who measures again when the verdict expires")


@rule("PARITY-009", ERROR, "a row points to its evidence")
def row_evidence(contract: Contract) -> Iterator[Hit]:
    yield from _lacking(contract, "evidence", "evidence: a file, a commit or a contract that holds the measurement")


@rule("PARITY-010", ERROR, "a row names what was compared")
def dimension(contract: Contract) -> Iterator[Hit]:
    yield from _lacking(contract, "dimension", "dimension: decode_tok_s, accuracy, or what else was measured")


@rule("PARITY-011", ERROR, f"a row is valid for {MAX_DAYS} days at most")
def row_validity(contract: Contract) -> Iterator[Hit]:
    for row in _entries(contract, "rows"):
        yield from _too_long(row, "measured_on", "valid_until", "measure again until then")


@rule("PARITY-012", ERROR, "a downgrade names a row of the ledger, which no other downgrade names")
def downgraded_rows(contract: Contract) -> Iterator[Hit]:
    present = {row.text("entry_point").strip() for row in _entries(contract, "rows")}
    entries = _entries(contract, "downgrades")
    for entry in entries:
        yield from _name(entry, "entry_point: that of the row which is no longer measured")
        text = entry.text("entry_point").strip()
        if text and text not in present:
            hint = "a downgrade explains a row that is there and unmeasured, not one that was deleted: put the row back"
            yield Hit(entry.at("entry_point"), f"no row is about {text!r}", hint)
    for entry, text, first in again(entries, "entry_point"):
        what = f"{text!r} is downgraded in line {line_of(first, 'entry_point')} already"
        yield Hit(entry.at("entry_point"), what, "keep one of them")


@rule("PARITY-013", ERROR, f"a downgrade has a reason, an owner, and a date of recheck within {MAX_DAYS} days")
def downgrade_records(contract: Contract) -> Iterator[Hit]:
    for entry in _entries(contract, "downgrades"):
        yield from one_of(entry, "reason", REASONS)
        yield from lacking(entry, "owner", "owner: who owes the measurement")
        yield from _period(entry, "recorded_on", "recheck_by")
        yield from _too_long(entry, "recorded_on", "recheck_by", "look at it again until then")


@rule("PARITY-014", ERROR, "a row that is downgraded is UNMEASURED")
def downgraded_verdicts(contract: Contract) -> Iterator[Hit]:
    verdicts = {row.text("entry_point").strip(): row.text("verdict") for row in _entries(contract, "rows")}
    for entry in _entries(contract, "downgrades"):
        name = entry.text("entry_point").strip()
        if verdicts.get(name) in VERDICTS and verdicts[name] != UNMEASURED:
            what = f"{name!r} is downgraded, and its row still says {verdicts[name]}"
            yield Hit(entry.at("entry_point"), what, f"write verdict: {UNMEASURED} there, or remove the downgrade")


@rule("PARITY-015", ERROR, "a test in a ledger of comparisons is a command, or has falsifiers")
def commands(contract: Contract) -> Iterator[Hit]:
    for test in contract.tests if contract.kind == "competitive-parity" else ():
        texts = [test.entry.text(key).strip() for key in ("test", "command", "test_harness")]
        text = next((text for text in texts if text), "")
        first = text.split()[0] if text else ""
        if not test.bound and first not in RUNNERS and not first.startswith("./"):
            what = f"is no command: {text!r}" if text else "names nothing that can be run"
            hint = f"test: a command that begins with {', '.join(RUNNERS)} or ./; or give the test falsifiers"
            yield Hit(test.entry.at("test"), f"{called(test.entry, 'falsification test')} {what}", hint)


@run_rule("PARITY-016", ERROR, f"no date in a ledger of comparisons lies more than {MAX_DAYS} days ahead")
def far_dates(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    today = kinds.today()
    hint = f"bring it within {MAX_DAYS} days: a date far ahead exempts from being looked at again"
    for contract in contracts:
        for mention in contract.dates:
            if (ahead := _ahead(mention, today)) > MAX_DAYS:
                yield contract, Hit(mention.at, f"{mention.name} lies {ahead} days ahead of today, {today}", hint)


@run_rule("PARITY-017", ERROR, "what has happened by a ledger of comparisons has not a day to come")
def future_events(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    today = kinds.today()
    for contract in contracts:
        for mention in contract.events:
            if _ahead(mention, today) > 0:
                what = f"this cannot have happened on {mention.name}: today is {today}"
                yield contract, Hit(mention.at, what, "give the day of the measurement or of the record, in UTC")


@run_rule("PV-PARITY-001", WARNING, "a row that says BETTER is still valid today")
def expired(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    today = kinds.today()
    hint = f"measure again, or write verdict: {UNMEASURED} and a downgrade with the reason"
    for contract in contracts:
        for mention in contract.claimed if contract.kind == "competitive-parity" else ():
            if _ahead(mention, today) < 0:
                what = f"the row says BETTER, which was valid until {mention.name.strip()}"
                yield contract, Hit(mention.at, what, hint)


def _ahead(mention: Mention, today: date) -> int:
    day = iso_date(mention.name)
    return (day - today).days if day else 0


def _lacking(contract: Contract, key: str, hint: str) -> Iterator[Hit]:
    for row in _entries(contract, "rows"):
        yield from lacking(row, key, hint)


def _name(entry: Entry, hint: str) -> Iterator[Hit]:
    """The hit for an entry point that is missing, or that looks like another one than it is."""
    yield from lacking(entry, "entry_point", hint)
    text = entry.text("entry_point")
    name = named((*entry.place, "entry_point"))
    if strange := next((char for char in text if not " " <= char <= "~"), ""):
        what = f"{name}: the character U+{ord(strange):04X} is not printable ASCII"
        yield Hit(entry.at("entry_point"), what, "write it as it is typed in a shell, in one line")
    elif text.strip() and text != text.strip():
        yield Hit(entry.at("entry_point"), f"{name}: {text!r} begins or ends with a blank", "remove it")


def _period(entry: Entry, begin: str, end: str) -> Iterator[Hit]:
    """The hits for two dates that must be there, the second later than the first."""
    for key in (begin, end):
        yield from lacking(entry, key, f"{key}: YYYY-MM-DD")
        text = entry.text(key).strip()
        if text and not iso_date(text):
            yield Hit(entry.at(key), f"{named((*entry.place, key))}: {text!r} is no day of the calendar", "YYYY-MM-DD")
    days = _days(entry, begin, end)
    if days is not None and days <= 0:
        yield Hit(entry.at(end), f"{end} is not later than {begin}", f"{begin}: {entry.text(begin).strip()}")


def _too_long(entry: Entry, begin: str, end: str, hint: str) -> Iterator[Hit]:
    days = _days(entry, begin, end)
    if days is not None and days > MAX_DAYS:
        yield Hit(entry.at(end), f"{end} is {days} days after {begin}, more than {MAX_DAYS}", hint)


def _days(entry: Entry, begin: str, end: str) -> int | None:
    first, last = iso_date(entry.text(begin)), iso_date(entry.text(end))
    return (last - first).days if first and last else None
