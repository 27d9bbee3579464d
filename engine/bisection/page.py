"""The page of a bisection: one HTML file to read, without scripts and without a network.

Every figure is text in its cell; colour, on a scale of decades around the floor, repeats what the text says. Light and
dark follow the reader's system.
"""

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from engine.bisection.measured import Row
from engine.bisection.readings import CARRIED_ALLOWANCE, PEAK_ALLOWANCE, Reading
from engine.bisection.report import BisectReport, cost_text, details, served, tokens_text, where
from engine.bisection.stages import name_of
from engine.bisection.verdict import Defect
from engine.stage_error import SINGLE_ALLOWANCE, WHOLE_ALLOWANCE
from engine.stages import NAMES, WHOLE

DECADES = (0.1, 0.5, 1.4, 10.0, 100.0, 1e4)
"""Bounds of the colours, in error over floor; 1.4 is what a whole stage is allowed."""
LABELS = ("0 to 0.1", "to 0.5", "to 1.4", "to 10", "to 100", "to 10000", "more")
LIGHT = ("#f3f6fa", "#dbe7f4", "#c3dbef", "#fde3b8", "#fbb877", "#ef7d5b", "#c8373a")
DARK = ("#1b222b", "#20364d", "#274d70", "#5d4513", "#83500f", "#9c3a1c", "#b3202c")
MEANING = {
    "EQUAL": "Every bit that was compared is the same.",
    "WITHIN_FLOOR": "No stage errs by more than honest arithmetic does.",
    "DIVERGES": "A stage errs by more than honest arithmetic does, as is proved; or what ran is not what is claimed.",
    "CANNOT_TELL": "What was measured does not suffice for a verdict.",
}


def page(report: BisectReport) -> str:
    """The whole document."""
    found, verdict = report.found, report.found.verdict
    title = f"{verdict.name}: {report.subject['side']} against {report.oracle['side']}"
    counts = report.counts()
    parts = [
        f'<header class="{verdict.name}"><p class="verdict">{verdict.name}</p><h1>{_text(report.headline())}</h1>',
        f"<p>{MEANING[verdict.name]}</p></header>",
        "<main>",
        _section("Decisive", _facts(_decisive(report))),
    ]
    if found.measured.findings:
        shown = "".join(
            f"<li><strong>{_text(one.kind)}</strong>: {_text(one.text)}</li>" for one in found.measured.findings
        )
        parts.append(_section("How the subject was served", f"<ul>{shown}</ul>"))
    for heading, listed in (("Defects", verdict.defects), ("Suspects that are not proved", verdict.suspects)):
        if listed:
            parts.append(_section(heading, "".join(map(_defect, listed)) + _replay(report)))
    for heading, texts in (("Missing", verdict.missing), ("Notes", report.notes())):
        if texts:
            parts.append(_section(heading, "<ul>" + "".join(f"<li>{_text(one)}</li>" for one in texts) + "</ul>"))
    rows, layers = found.measured.rows, found.measured.layers
    parts += [
        _section("Own error of each stage over its floor (isolated)", _map(rows, layers, ("isolated", "own"))),
        _section("Error with what was carried, over its floor (cumulative)", _map(rows, layers, ("cumulative",))),
        _section("How to read the maps", _legend()),
        _section(
            "Where this comes from",
            _facts(
                [
                    ("prompt", json.dumps(report.prompt, ensure_ascii=False)),
                    ("tokens", " ".join(map(str, found.tokens))),
                    ("subject", _provenance(report.subject)),
                    ("oracle", _provenance(report.oracle)),
                    ("stages", ", ".join(f"{name} {count}" for name, count in counts.items())),
                    ("cost", cost_text(found)),
                    ("package", f"pv-contracts {report.version}"),
                ]
            )
            + _replay(report),
        ),
        "</main>",
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{_text(title)}</title><style>{_style()}</style></head>'
    )
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _decisive(report: BisectReport) -> list[tuple[str, str]]:
    found = report.found
    m, counts = found.measured, report.counts()
    facts = [("subject", served(report.subject)), ("oracle", served(report.oracle))]
    if found.computed:
        facts.append(("computed", f"{found.computed}"))
    if m.tokens is not None:
        facts.append(
            ("tokens", f"differ from position {m.tokens.position} on: {m.tokens.subject} and {m.tokens.oracle}")
        )
    facts.append(("logits", report.logits()))
    facts.append(("compared", f"{counts['compared']} of {counts['expected']} stages, {tokens_text(found)}"))
    facts += [("not tested", one) for one in report.not_tested]
    return facts


def _defect(one: Defect) -> str:
    listed = "".join(f"<li>{_text(line)}</li>" for line in details(one))
    return f"<article><h3>{_text(where(one))}</h3><ul>{listed}</ul></article>"


def _map(rows: Sequence[Row], layers: int, names: tuple[str, ...]) -> str:
    """A table of layers by stages, and one of the stages that belong to no layer."""
    at = {row.key: row for row in rows}
    inner = [name for name in NAMES if name not in WHOLE and name != "embedding"]
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in inner)
    body = "".join(
        f'<tr><th scope="row">layer {layer}</th>'
        + "".join(_cell(at.get((name, layer)), names) for name in inner)
        + "</tr>"
        for layer in range(layers)
    )
    alone = [("embedding", 0), *((name, None) for name in NAMES if name in WHOLE)]
    tops = "".join(f'<th scope="col"><span>{name}</span></th>' for name, _ in alone)
    cells = "".join(_cell(at.get(key), names) for key in alone)
    return (
        f'<div class="map"><table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<div class="map"><table><thead><tr>{tops}</tr></thead><tbody><tr>{cells}</tr></tbody></table></div>'
    )


def _cell(row: Row | None, names: tuple[str, ...]) -> str:
    if row is None:
        return "<td></td>"
    reading = next((one for name in names if (one := getattr(row, name)) is not None), None)
    if reading is None:
        return f'<td class="none" title="{_text(name_of(row.key))}: {_text(row.why or "not measured")}">-</td>'
    beyond = row.suspect if "isolated" in names else not reading.whole <= CARRIED_ALLOWANCE
    what = f"{name_of(row.key)}: {_figures(reading)}{'; above what is allowed' if beyond else ''}"
    shade = sum(not reading.whole <= bound for bound in DECADES)
    mark = '<b aria-label="above what is allowed">!</b>' if beyond else ""
    return f'<td class="c{shade}{" beyond" * beyond}" title="{_text(what)}">{_short(reading.whole)}{mark}</td>'


def _figures(one: Reading) -> str:
    token, group = one.at
    return (
        f"error {one.error:.3g}, floor {one.floor:.3g}, {one.whole:.3g} times it; {one.single:.3g} at token {token}, "
        f"group {group}; largest entries {one.peak:.3g}; cosine {one.cosine:.6f}"
    )


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "inf"
    return f"{value:.2g}" if value < 1000 else f"1e{round(math.log10(value))}"


def _legend() -> str:
    keys = "".join(f'<li><span class="c{shade}">{label}</span></li>' for shade, label in enumerate(LABELS))
    return (
        f'<ul class="legend" aria-label="colours: error over floor">{keys}</ul>'
        "<p>A figure is the error of the whole stage over the error that honest arithmetic makes there. ! marks what "
        f"is above its allowance: of its own error {WHOLE_ALLOWANCE} for the whole stage, {SINGLE_ALLOWANCE:g} for a "
        f"token and head, {PEAK_ALLOWANCE:g} for an entry, or a product that is not what its rounding predicts; of "
        f"the carried error {CARRIED_ALLOWANCE:g}. Resting on a cell shows its figures; - was not measured.</p>"
    )


def _provenance(side: dict[str, Any]) -> str:
    model = side["model"]
    return f"{model['name']} ({model['architecture']}), {model['file'] or side['side']}, sha256 {model['sha256']}"


def _replay(report: BisectReport) -> str:
    return f"<p>Replay: <code>{_text(report.replay)}</code></p>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{_text(text)}</dd>" for name, text in facts) + "</dl>"


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{heading}</h2>{body}</section>"


def _text(text: str) -> str:
    return escape(text, quote=True)


def _style() -> str:
    light, dark = (
        "".join(f"--c{shade}:{colour};" for shade, colour in enumerate(colours)) for colours in (LIGHT, DARK)
    )
    shades = "".join(f".c{shade}{{background:var(--c{shade})}}" for shade in range(len(LIGHT)))
    return (
        f":root{{{light}--ink:#1c2024;--soft:#5b646e;--paper:#fff;--line:#d5dae0;--last:#fff}}"
        f"@media(prefers-color-scheme:dark){{:root{{{dark}--ink:#e6e9ec;--soft:#9aa4ae;--paper:#12161b;--line:#343c45}}}}"
        "body{margin:0;font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}"
        "header,main{max-width:78rem;margin:auto;padding:1rem}"
        "header{border-left:.5rem solid var(--c2)}header.DIVERGES{border-color:var(--c6)}"
        "header.CANNOT_TELL{border-color:var(--c4)}"
        ".verdict{font-size:2rem;font-weight:700;margin:0}h1{font-size:1.15rem;margin:.2rem 0;font-weight:600}"
        "h2{font-size:1.05rem;margin:1.6rem 0 .4rem;border-bottom:1px solid var(--line)}"
        "h3{font-size:1rem;margin:.8rem 0 0}"
        "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0}dt{color:var(--soft)}"
        "dd{margin:0;overflow-wrap:anywhere}code{overflow-wrap:anywhere;font-size:.9em}"
        ".map{overflow-x:auto;margin:.5rem 0}"
        "table{border-collapse:collapse;font-size:.75rem;font-variant-numeric:tabular-nums}"
        "th{font-weight:400;color:var(--soft);text-align:left;padding:.1rem .4rem;white-space:nowrap}"
        "thead th{vertical-align:bottom;padding:.2rem .1rem}"
        "thead span{writing-mode:vertical-rl;transform:rotate(180deg)}"
        "td{min-width:2.6rem;height:1.5rem;text-align:center;border:1px solid var(--paper);padding:0 .15rem}"
        "thead td{border:0}.none{color:var(--soft)}"
        ".beyond{outline:2px solid var(--ink);outline-offset:-2px;font-weight:700}"
        ".c6{color:var(--last)}.legend{display:flex;flex-wrap:wrap;gap:.3rem;list-style:none;padding:0}"
        f".legend span{{padding:.15rem .6rem}}{shades}"
    )
