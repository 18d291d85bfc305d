"""The concept graph as a result: its nodes and edges, and how it shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..drawing import plots, png_of
from ..errors import InputError
from ..result_table import Framed
from .decompose import Decomposition
from .exports import Classes, as_dict, as_dot, as_networkx, as_text, called, class_names, from_dict
from .parts import ConceptEdge, ConceptNode, Key

if TYPE_CHECKING:
    import networkx as nx
    import torch

    from ..drawing import Axes, Figure

__all__ = ["ConceptGraph"]


class ConceptGraph(Framed):
    """A class or a concept of one sample, or of several, decomposed into the concepts of the layers before it.

    Made by `crp_kit.Study.concept_graph`, or read by `from_json`. Its data frame has a row for each edge: layer and
    concept of source and target, relevance, share.

    Parameters
    ----------
    decomposition : Decomposition
        Nodes and edges.
    classes : sequence of str or dict, optional
        Names of the classes.

    References
    ----------
    R. Achtibat et al., From attribution maps to human-understandable explanations through Concept Relevance
    Propagation, Nature Machine Intelligence 5, 2023: the attribution graph of Fig. 3d.
    """

    def __init__(self, decomposition: Decomposition, classes: Classes = None) -> None:
        self._found = decomposition
        self.classes = class_names(classes)

    @property
    def start(self) -> dict[str, list[Any]]:
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
        """Return the edges to the concepts that a concept is made of, best first.

        Parameters
        ----------
        node : ConceptNode or (str, int)
            The concept, as a node of the graph or as layer and concept id.

        Returns
        -------
        tuple of ConceptEdge
            With the concept as their source.

        Raises
        ------
        InputError
            If the graph has no such node.
        """
        key = node.key if isinstance(node, ConceptNode) else self[node].key
        return tuple(edge for edge in self.edges if edge.source == key)

    def parents(self, node: ConceptNode | Key) -> tuple[ConceptEdge, ...]:
        """Return the edges from the concepts that a concept is part of.

        Parameters
        ----------
        node : ConceptNode or (str, int)
            The concept, as a node of the graph or as layer and concept id.

        Returns
        -------
        tuple of ConceptEdge
            With the concept as their target.

        Raises
        ------
        InputError
            If the graph has no such node.
        """
        key = node.key if isinstance(node, ConceptNode) else self[node].key
        return tuple(edge for edge in self.edges if edge.target == key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConceptGraph) and self._found == other._found

    def __hash__(self) -> int:
        return hash(self._found)

    def called(self, node: ConceptNode, *, classes: Classes = None) -> str:
        """Return what titles call a concept, with the names of classes where they are known.

        Parameters
        ----------
        node : ConceptNode
            The concept.
        classes : sequence of str or dict, optional
            Names of the classes; by default those of the study.
        """
        return called(node, class_names(classes) or self.classes, self._found.start.target)

    def to_json(self) -> dict[str, Any]:
        """Return the graph as a dictionary for ``json.dump``; it says what format and version it has."""
        return as_dict(self._found)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ConceptGraph:
        """Return the graph that `to_json` has written.

        Parameters
        ----------
        data : dict
            What ``json.load`` returns for such a file.

        Returns
        -------
        ConceptGraph

        Raises
        ------
        InputError
            If it is something else, is of a newer version, or has parts missing.
        """
        return cls(from_dict(data))

    def to_networkx(self) -> nx.DiGraph:
        """Return the graph for networkx (an extra): nodes ``(layer, concept)``, edges from the class to the input.

        Raises
        ------
        CrpKitError
            If networkx is not installed.
        """
        return as_networkx(self._found)

    def _framed(self) -> dict[str, list[Any]]:
        ends = ("source_layer", "source_concept", "target_layer", "target_concept")
        keys = {name: [(*edge.source, *edge.target)[place] for edge in self.edges] for place, name in enumerate(ends)}
        values = ("relevance", "share", "share_std", "n")
        return keys | {name: [getattr(edge, name) for edge in self.edges] for name in values}

    def to_dot(self, *, classes: Classes = None) -> str:
        """Return the graph in Graphviz's language: ``dot -Tsvg`` draws it.

        Parameters
        ----------
        classes : sequence of str or dict, optional
            Names of the classes; by default those of the study.
        """
        return as_dot(self._found, class_names(classes) or self.classes)

    def to_text(self, *, classes: Classes = None) -> str:
        """Return the graph as an indented tree.

        Parameters
        ----------
        classes : sequence of str or dict, optional
            Names of the classes; by default those of the study.
        """
        return as_text(self._found, class_names(classes) or self.classes)

    def __repr__(self) -> str:
        return self.to_text()

    def plot(
        self,
        *,
        references: Mapping[Key, Sequence[Any]] | None = None,
        heatmaps: Mapping[Key, torch.Tensor] | None = None,
        image: Any = None,
        classes: Classes = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Figure:
        """Return a matplotlib Figure: layers as columns, from the start at the left down to the lowest at the right.

        Parameters
        ----------
        references : dict, optional
            By node, reference samples to show in it, as `crp_kit.Study.reference_pictures` returns them.
        heatmaps : dict, optional
            By node, the conditional heatmap of the graph's own sample, as `crp_kit.Study.node_heatmaps` returns them.
        image : PIL image, torch.Tensor or array, optional
            What the model saw, with values in [0, 1]; it stands in the node of the class.
        classes : sequence of str or dict, optional
            Names of the classes.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default in a new figure of the size that the graph needs.
        **options : Any
            As in `crp_kit.views.plot.concept_graph`: `names`, `style`, `percentile`, `cmap`, `least`, `width`.
        """
        figure: Figure = plots().concept_graph(
            self,
            references=references or {},
            heatmaps=heatmaps or {},
            image=image,
            classes=class_names(classes) or self.classes,
            ax=ax,
            **options,
        )
        return figure

    def _repr_png_(self) -> bytes:
        """Show the graph in a notebook."""
        return png_of(self.plot())
