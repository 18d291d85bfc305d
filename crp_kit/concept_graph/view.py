"""What a concept graph can be asked, and how it shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..attribution.cond_attribution import CondAttribution
from ..drawing import plots, png_of
from ..errors import InputError
from .decompose import Decomposition
from .exports import Classes, as_dict, as_dot, as_networkx, as_text, class_names, from_dict
from .parts import ConceptEdge, ConceptNode, Key
from .pictures import heatmap_pictures, reference_pictures
from .shares import Concepts, Samples

if TYPE_CHECKING:
    import networkx as nx

    from ..atlas import ConceptAtlas
    from ..drawing import Axes, Figure

__all__ = ["GraphView"]

_Graph = TypeVar("_Graph", bound="GraphView")


class GraphView:
    """A concept graph that is there already."""

    _found: Decomposition
    _source: Samples | None = None
    """What it was made from, if that is known."""
    _concepts: Concepts = None

    @property
    def start(self) -> dict[str, list[int]]:
        """The condition set that the whole graph is under."""
        return self._found.start.condition()

    @property
    def nodes(self) -> tuple[ConceptNode, ...]:
        """The concepts, by depth and then by rank: the root first."""
        return self._found.nodes

    @property
    def edges(self) -> tuple[ConceptEdge, ...]:
        """What they take from each other, by source, best first."""
        return self._found.edges

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the nodes, in execution order."""
        return self._found.layers

    @property
    def samples(self) -> int:
        """Number of samples that the graph is about."""
        return self._found.samples

    @property
    def root(self) -> ConceptNode:
        """What is decomposed."""
        return self.nodes[0]

    def __getitem__(self, key: Key) -> ConceptNode:
        """Return the node of a layer and a concept.

        Raises
        ------
        InputError
            If the graph has no such node.
        """
        for node in self.nodes:
            if node.key == key:
                return node
        raise InputError(f"the graph has no node {key!r}; a node is a layer and a concept, such as {self.root.key!r}")

    def __contains__(self, key: object) -> bool:
        return any(node.key == key for node in self.nodes)

    def __iter__(self) -> Iterator[ConceptNode]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def children(self, node: ConceptNode | Key) -> tuple[ConceptEdge, ...]:
        """Return the edges to the concepts that a concept is made of, best first."""
        key = node.key if isinstance(node, ConceptNode) else self[node].key
        return tuple(edge for edge in self.edges if edge.source == key)

    def parents(self, node: ConceptNode | Key) -> tuple[ConceptEdge, ...]:
        """Return the edges from the concepts that a concept is part of."""
        key = node.key if isinstance(node, ConceptNode) else self[node].key
        return tuple(edge for edge in self.edges if edge.target == key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GraphView) and self._found == other._found

    def __hash__(self) -> int:
        return hash(self._found)

    def to_json(self) -> dict[str, Any]:
        """Return the graph as a dictionary for ``json.dump``; it says what format and version it has."""
        return as_dict(self._found)

    @classmethod
    def from_json(cls: type[_Graph], given: Mapping[str, Any]) -> _Graph:
        """Return the graph that `to_json` has written.

        It is equal to that one, but knows no model: pictures of its concepts need an attribution.

        Raises
        ------
        InputError
            If it is something else, is of a newer version, or has parts missing.
        """
        made = cls.__new__(cls)
        made._found = from_dict(given)
        return made

    def to_networkx(self) -> nx.DiGraph:
        """Return the graph for networkx (an extra): nodes ``(layer, concept)``, edges from the class to the input.

        Raises
        ------
        CrpKitError
            If networkx is not installed.
        """
        return as_networkx(self._found)

    def to_dot(self, *, classes: Classes = None) -> str:
        """Return the graph in Graphviz's language: ``dot -Tsvg`` draws it.

        Parameters
        ----------
        classes : sequence of str or dict, optional
            Names of the classes.
        """
        return as_dot(self._found, class_names(classes))

    def to_text(self, *, classes: Classes = None) -> str:
        """Return the graph as an indented tree.

        Parameters
        ----------
        classes : sequence of str or dict, optional
            Names of the classes.
        """
        return as_text(self._found, class_names(classes))

    def __repr__(self) -> str:
        return self.to_text()

    def plot(
        self,
        *,
        atlas: ConceptAtlas | None = None,
        dataset: Any = None,
        preprocess: Any = None,
        attribution: CondAttribution | None = None,
        composite: Any = None,
        k: int = 1,
        receptive_field: bool = True,
        heatmaps: bool = False,
        image: Any = None,
        classes: Classes = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Return a matplotlib Figure: layers as columns, from the start at the left down to the lowest at the right.

        Parameters
        ----------
        atlas : ConceptAtlas, optional
            Shows reference samples in each node whose layer the atlas has.
        dataset, preprocess
            Those that the atlas was made from, as `ConceptAtlas.references` takes them.
        attribution : CondAttribution, optional
        composite : zennit Composite or str, optional
            For the references; by default what the graph was made with.
        k : int, optional
            Number of reference samples in each node.
        receptive_field : bool, optional
            Show of each reference what the strongest neuron sees of it, instead of the whole image.
        heatmaps : bool, optional
            Show in each node the conditional heatmap of the graph's own sample.
        image : PIL image, torch.Tensor or array, optional
            What the model saw, with values in [0, 1]; it stands in the node of the class.
        classes : sequence of str or dict, optional
            Names of the classes.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default in a new figure of the size that the graph needs.

        Raises
        ------
        InputError
            If an atlas comes without its dataset, or heatmaps are asked for of a graph that is about many samples or
            was read from a file.
        """
        references, maps = {}, {}
        if atlas is not None:
            mine = self._source
            attribution = mine.attribution if attribution is None and mine is not None else attribution
            composite = composite if composite is not None or mine is None else mine.composite
            asked = {"attribution": attribution, "composite": composite, "preprocess": preprocess, "k": k}
            asked |= {"concepts": self._concepts, "receptive_field": receptive_field}
            references = reference_pictures(self._found, atlas, dataset, asked=asked)
        if heatmaps:
            maps = heatmap_pictures(self._found, self._source, self._concepts)
        figure: Figure = plots().concept_graph(
            self, references=references, heatmaps=maps, image=image, classes=class_names(classes), ax=ax
        )
        return figure

    def _repr_png_(self) -> bytes:
        """Show the graph in a notebook."""
        return png_of(self.plot())
