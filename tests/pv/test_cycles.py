from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pv.cycles import cycles

GRAPHS = st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefgh"), max_size=4))


def distance(edges: dict[str, list[str]], start: str) -> int | None:
    """The number of edges of a shortest way from a name back to itself."""
    reached, steps = {start}, 0
    while reached:
        steps += 1
        reached = {to for name in reached for to in edges.get(name, ()) if to in edges}
        if start in reached:
            return steps
        if steps > len(edges):
            return None
    return None


@given(GRAPHS)
def test_every_name_on_a_cycle_is_on_a_way_that_is_shown_and_no_other_is(edges):
    ways = list(cycles(edges, sorted(edges)))
    for way in ways:
        assert way[0] == way[-1]
        assert all(to in edges[name] for name, to in pairwise(way))
        assert len(way) - 1 == distance(edges, way[0])
    assert len({frozenset(way) for way in ways}) == len(ways)
    assert {name for way in ways for name in way} == {name for name in edges if distance(edges, name)}


def test_a_long_chain_is_no_cycle_and_ends():
    edges = {str(i): [str(i + 1)] for i in range(20_000)}
    assert list(cycles(edges, list(edges))) == []
    assert [len(way) for way in cycles({**edges, "20000": ["0"]}, list(edges))] == [20_002]
