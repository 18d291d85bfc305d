"""Hypothesis strategies for the structures that the tests vary."""

from hypothesis import strategies as st

from .linear_dag import INPUT, Dag


@st.composite
def dags(draw: st.DrawFn, max_nodes: int = 6) -> Dag:
    """Structure of a network of linear nodes; it shrinks towards few nodes and few edges."""
    nodes = draw(st.integers(1, max_nodes))
    sources = []
    for node in range(nodes):
        earlier = st.sampled_from([INPUT, *range(node)])
        sources.append(tuple(sorted(draw(st.lists(earlier, min_size=1, max_size=3, unique=True)))))
    concatenated = draw(st.lists(st.booleans(), min_size=nodes, max_size=nodes))
    return Dag(tuple(sources), tuple(concatenated), draw(st.booleans()))
