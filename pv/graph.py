"""`pv graph`: which contract depends on which, by the names in metadata.depends_on.

JSON, schema pv-graph/1; keys may be added, none changes its meaning:

    {"schema": "pv-graph/1", "contracts": [{name, path}], "dependencies": [{from, to, path, line, known}],
     "order": [name], "cycles": [[name]], "declined": [{place, reason}]}

order has dependencies first, and lacks what is in a cycle or depends on one; a cycle is a path whose last name depends
on its first.
"""

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pv.collection import Collection
from pv.cycles import cycles
from pv.excerpt import printable
from pv.facts import facts_of, stem_of
from pv.obligations import plural


@dataclass(frozen=True, slots=True)
class Dependency:
    """A name in depends_on; known: whether a contract of the run has it."""

    of: str
    on: str
    path: Path
    line: int
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Contracts by name, in the order of names, and their dependencies, each once."""

    contracts: Mapping[str, Path]
    dependencies: tuple[Dependency, ...]
    order: tuple[str, ...]
    cycles: tuple[tuple[str, ...], ...]
    declined: tuple[tuple[str, str], ...]

    @property
    def missing(self) -> list[Dependency]:
        return [one for one in self.dependencies if not one.known]

    @property
    def code(self) -> int:
        if self.cycles:
            return 1
        return 2 if self.declined or not self.contracts else 0


def graph(collected: Collection) -> Graph:
    """The graph of the contracts. Two of one name leave open which one is meant: the second is declined."""
    contracts: dict[str, Path] = {}
    declined = list(collected.declined)
    facts = []
    for contract in collected.contracts:
        if contract.stem in contracts:
            declined.append((str(contract.path), f"has the same name as {contracts[contract.stem]}"))
            continue
        contracts[contract.stem] = contract.path
        facts.append(facts_of(contract))
    found = {
        (one.stem, on): Dependency(one.stem, on, one.path, name.at.line, on in contracts)
        for one in facts
        for name in reversed(one.depends_on)  # of a name that stands twice, the first place counts
        for on in [stem_of(name.name) if stem_of(name.name) in contracts else name.name]
    }
    edges: dict[str, list[str]] = {name: [] for name in sorted(contracts)}
    for (of, on), dependency in sorted(found.items()):
        if dependency.known:
            edges[of].append(on)
    return Graph(
        contracts=dict(sorted(contracts.items())),
        dependencies=tuple(dependency for _, dependency in sorted(found.items())),
        order=tuple(_order(edges)),
        cycles=tuple(tuple(way[:-1]) for way in cycles(edges, list(edges))),
        declined=tuple(declined),
    )


def _order(edges: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Dependencies first, else by name; without what waits for a cycle."""
    waits = {name: len(on) for name, on in edges.items()}
    users: dict[str, list[str]] = {name: [] for name in edges}
    for name, on in edges.items():
        for other in on:
            users[other].append(name)
    ready = [name for name, count in waits.items() if not count]
    heapq.heapify(ready)
    while ready:
        name = heapq.heappop(ready)
        yield name
        for user in users[name]:
            waits[user] -= 1
            if not waits[user]:
                heapq.heappush(ready, user)


# -- what is printed ---------------------------------------------------------------------------------------------------


def as_text(found: Graph) -> str:
    """Dependencies first, then what points nowhere, cycles, and what they keep from an order; the last line counts."""
    on: dict[str, list[str]] = {}
    for one in found.dependencies:
        on.setdefault(one.of, []).append(one.on if one.known else f"{one.on} (missing)")
    lines = [f"{name} -> {', '.join(on[name])}" if name in on else name for name in found.order]
    lines += [
        f"{one.path}:{one.line}: {one.of} depends on {one.on}, which is none of these contracts"
        for one in found.missing
    ]
    lines += [f"cycle: {' -> '.join([*cycle, cycle[0]])}" for cycle in found.cycles]
    if waiting := [name for name in found.contracts if name not in set(found.order)]:
        lines.append(f"no order for: {', '.join(waiting)}")
    word = ("", "reject: ", "decline: ")[found.code]
    lines.append(
        f"{word}{plural(len(found.contracts), 'contract')}, {_dependencies(len(found.dependencies))}, "
        f"{len(found.missing)} on what is missing, {plural(len(found.cycles), 'cycle')}"
    )
    return "\n".join(map(printable, lines))


def _dependencies(count: int) -> str:
    return "1 dependency" if count == 1 else f"{count} dependencies"


def _numbered(found: Graph) -> dict[str, str]:
    """An identifier for each name, the missing ones last."""
    names = dict.fromkeys([*found.contracts, *sorted(one.on for one in found.missing)])
    return {name: f"n{index}" for index, name in enumerate(names)}


def as_dot(found: Graph) -> str:
    """For Graphviz: an arrow points to what is depended on; what is missing is dashed, a cycle red."""
    ids, red = _numbered(found), _on_cycles(found)
    lines = ["digraph contracts {", "  rankdir=BT;", "  node [shape=box];"]
    for name, number in ids.items():
        style = "" if name in found.contracts else ", style=dashed"
        lines.append(f'  {number} [label="{_dot(name)}"{style}];')
    for one in found.dependencies:
        style = " [style=dashed]" if not one.known else " [color=red]" if (one.of, one.on) in red else ""
        lines.append(f"  {ids[one.of]} -> {ids[one.on]}{style};")
    return "\n".join([*lines, "}"])


def _dot(name: str) -> str:
    return printable(name).replace("\\", "\\\\").replace('"', '\\"')


def as_mermaid(found: Graph) -> str:
    """For Mermaid, which renders on GitHub; drawn as by `as_dot`."""
    ids, red = _numbered(found), _on_cycles(found)
    lines = ["graph BT"]
    for name, number in ids.items():
        lines.append(f'  {number}["{_mermaid(name)}"]{"" if name in found.contracts else ":::missing"}')
    links = []
    for index, one in enumerate(found.dependencies):
        lines.append(f"  {ids[one.of]} {'-->' if one.known else '-.->'} {ids[one.on]}")
        if (one.of, one.on) in red:
            links.append(str(index))
    if found.missing:
        lines.append("  classDef missing stroke-dasharray: 5 5")
    if links:
        lines.append(f"  linkStyle {','.join(links)} stroke:red")
    return "\n".join(lines)


def _mermaid(name: str) -> str:
    """As a label: all that is no letter or digit and might mean something becomes an entity."""
    return "".join(char if char.isalnum() or char in "-_. " else f"#{ord(char)};" for char in printable(name))


def _on_cycles(found: Graph) -> set[tuple[str, str]]:
    return {(name, cycle[(at + 1) % len(cycle)]) for cycle in found.cycles for at, name in enumerate(cycle)}


def as_json(found: Graph) -> str:
    """The documented JSON, see the head of this file."""
    content = {
        "schema": "pv-graph/1",
        "contracts": [{"name": name, "path": str(path)} for name, path in found.contracts.items()],
        "dependencies": [
            {"from": one.of, "to": one.on, "path": str(one.path), "line": one.line, "known": one.known}
            for one in found.dependencies
        ],
        "order": list(found.order),
        "cycles": [list(cycle) for cycle in found.cycles],
        "declined": [{"place": place, "reason": reason} for place, reason in found.declined],
    }
    return json.dumps(content, indent=2)
