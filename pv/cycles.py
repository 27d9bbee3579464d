"""Cycles in a graph of names."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence


def cycles(edges: Mapping[str, Sequence[str]], starts: Sequence[str]) -> Iterator[list[str]]:
    """Ways from a start back to itself, first and last name equal: a shortest one through each start that has one.

    A start that lies on a cycle which was found before gets none of its own.
    """
    left = _on_cycles(edges)
    done: set[str] = set()
    for start in starts:
        if start not in left or start in done:
            continue
        came_from: dict[str, str] = {}
        queue = deque([start])
        while queue and start not in came_from:
            name = queue.popleft()
            for to in left[name]:
                if to not in came_from:
                    came_from[to] = name
                    queue.append(to)
        if start in came_from:
            way = [start, came_from[start]]
            while way[-1] != start:
                way.append(came_from[way[-1]])
            done.update(way)
            yield way[::-1]


def _on_cycles(edges: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The part of a graph that is left when what leads nowhere, and then what nothing leads to, is taken out."""
    left = {name: [to for to in dict.fromkeys(targets) if to in edges] for name, targets in edges.items()}
    for _ in range(2):  # along the edges, then against them
        into: dict[str, list[str]] = {name: [] for name in left}
        for name, targets in left.items():
            for to in targets:
                into[to].append(name)
        count = {name: len(targets) for name, targets in left.items()}
        ends = [name for name in left if not count[name]]
        gone = set(ends)
        while ends:
            for name in into[ends.pop()]:
                count[name] -= 1
                if not count[name]:
                    gone.add(name)
                    ends.append(name)
        left = {
            name: [start for start in starts if start not in gone] for name, starts in into.items() if name not in gone
        }
    return left
