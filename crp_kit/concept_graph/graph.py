"""The concept graph as users make it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..attribution.cond_attribution import CondAttribution, check_data
from ..checks import check_integer
from ..errors import ConditionError, InputError
from ..rules.presets import Composite
from .decompose import Asked, Rank, decompose
from .parts import Key, Start
from .shares import Concepts, Samples
from .view import GraphView

__all__ = ["ConceptGraph"]


class ConceptGraph(GraphView):
    """A class or a concept of one sample, decomposed into the concepts of the layers before it.

    This is the attribution graph of Achtibat et al., "From attribution maps to human-understandable explanations
    through concept relevance propagation", Nature Machine Intelligence 5, 2023, Fig. 3d.

    The children of a concept are those that get most of its relevance in the layers that feed its own layer. An edge is
    the relevance of the lower concept in the pass that is conditioned on the upper one *and on the start of the graph*:
    ``{"layer3.1.conv2": [7], "y": [207]}`` for the children of channel 7. So a concept has one decomposition, whatever
    the ways that lead to it, and stands in the graph once. It is not conditioned on the chain of concepts in between:
    for one chain, give all of it to `CondAttribution`, such as ``{"layer4.1.conv2": [23], "layer3.1.conv2": [7],
    "y": [207]}``, with ``record_layer``.

    A pass ends at the first layer of the graph that it meets, so that a layer which is fed both directly and through
    another one is not counted twice: the shares of all concepts of the layers below, and what stays in biases or goes
    past these layers, sum to 1. Connections past a concept, such as shortcuts, do not count.

    Parameters
    ----------
    attribution : CondAttribution
    sample : torch.Tensor, tuple or dict
        One model input, (1, channel, height, width) for images.
    composite : zennit Composite or str, optional
        Rules; a preset name such as ``"epsilon_plus_flat"``; ``None`` for plain gradients, which conserve nothing, so
        that their shares need not sum to 1.
    start : dict or (str, int), optional
        What is decomposed: a class, ``{"y": [207]}`` (by default the predicted one); a concept,
        ``("layer4.1.conv2", 23)``, where relevance starts from the concept's own activation, whether the model uses it
        or not; or a concept as far as it serves a class, ``{"layer4.1.conv2": [23], "y": [207]}``.
    layers : str, module type, or several of them, optional
        The layers to decompose into, in any order: names, patterns or module types, as `crp_kit.build_atlas` takes
        them. By default all convolutions and linear layers. Those that feed a layer are found in the recorded graph,
        through functional operations, concatenations and shortcuts.
    width : int or sequence of int, optional
        Children that are kept of the root, of each of these, and so on; over all layers that feed a concept together.
        A concept that is met again at another depth is not decomposed again.
    min_share : float, optional
        Children below this share, in magnitude, are left out.
    rank : {"absolute", "signed"}, optional
        Keep the concepts with most relevance of either sign, or those that speak most for the start.
    concepts : Concept or dict, optional
        What a concept is, for all layers or by layer; channels by default.
    exclude_parallel : bool, optional
        ``False`` lets relevance past the concepts too, as zennit-crp does: what the children of a concept get is then
        not its own relevance alone.
    batch_size : int, optional
        Relevance passes that run at once.
    verbose : bool, optional
        Show a progress bar.

    Raises
    ------
    UnknownLayerError, ConceptRangeError
        If there is no such layer or concept.
    UnreachableLayerError
        If a layer does not feed the start, or none does.
    ConditionError
        If start, width, min_share or rank has no meaning, or the start has no relevance.
    InputError
        If `sample` is several samples.

    Examples
    --------
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> image, label = ShapesDataset(1)[0]
    >>> graph = ConceptGraph(CondAttribution(demo_resnet()), demo_preprocess(image)[None], "epsilon_plus_flat",
    ...                      start={"y": [label]}, layers=["layer2.1.conv2", "layer3.1.conv2"], width=(2, 2))
    >>> len(graph.children(graph.root)), graph.layers
    (2, ('layer2.1.conv2', 'layer3.1.conv2', 'y'))
    """

    def __init__(
        self,
        attribution: CondAttribution,
        sample: Any,
        composite: Composite | str | None = None,
        *,
        start: Mapping[str, Any] | Key | None = None,
        layers: Any = None,
        width: int | Sequence[int] = (5, 3),
        min_share: float = 0.0,
        rank: Rank = "absolute",
        concepts: Concepts = None,
        exclude_parallel: bool = True,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> None:
        count = check_data(attribution.engine.named(sample))
        if count != 1:
            raise InputError(f"a concept graph is of one sample; got {count}. ConceptGraph.over averages over several")
        asked = Asked(
            start=None if start is None else Start.of(start),
            layers=layers,
            width=_widths(width),
            min_share=min_share,
            rank=rank,
            concepts=concepts,
            exclude_parallel=exclude_parallel,
            verbose=verbose,
        )
        self._make(attribution, sample, composite, asked=asked, batch_size=batch_size)

    @classmethod
    def over(
        cls,
        attribution: CondAttribution,
        samples: Any,
        composite: Composite | str | None = None,
        *,
        start: Mapping[str, Any] | Key,
        layers: Any = None,
        width: int | Sequence[int] = (5, 3),
        min_share: float = 0.0,
        rank: Rank = "absolute",
        concepts: Concepts = None,
        exclude_parallel: bool = True,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> ConceptGraph:
        """Return the mean graph of many samples: how a class uses its concepts across a dataset.

        Each edge has the mean of its shares over all samples in which its source carries relevance, their standard
        deviation, and how many they are. The concepts to keep are chosen by this mean, so that every sample counts for
        every edge, not only those where it is among the strongest.

        Parameters
        ----------
        attribution : CondAttribution
        samples : torch.Tensor, tuple or dict
            Model inputs, (sample, channel, height, width) for images, such as those of one class.
        composite : zennit Composite or str, optional
        start, layers, width, min_share, rank, concepts, exclude_parallel, batch_size, verbose
            As for one sample, but what to start from has to be said.

        Returns
        -------
        ConceptGraph

        Examples
        --------
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> images, labels = ShapesDataset(64).batch(range(64))
        >>> mine = demo_preprocess(images[labels == labels[0]])
        >>> graph = ConceptGraph.over(CondAttribution(demo_resnet()), mine, "epsilon_plus_flat",
        ...                           start={"y": [int(labels[0])]}, layers="layer3.1.conv2", width=[3])
        >>> graph.samples == len(mine), len(graph.edges)
        (True, 3)
        """
        check_data(attribution.engine.named(samples))
        made = cls.__new__(cls)
        asked = Asked(
            start=Start.of(start),
            layers=layers,
            width=_widths(width),
            min_share=min_share,
            rank=rank,
            concepts=concepts,
            exclude_parallel=exclude_parallel,
            verbose=verbose,
        )
        made._make(attribution, samples, composite, asked=asked, batch_size=batch_size)
        return made

    def _make(
        self,
        attribution: CondAttribution,
        data: Any,
        composite: Composite | str | None,
        *,
        asked: Asked,
        batch_size: int,
    ) -> None:
        rules, inputs = attribution.resolve_composite(composite), attribution.engine.named(data)
        count = check_data(inputs)
        batch_size = check_integer("batch_size", batch_size, low=1, error=ConditionError)
        samples = Samples(attribution, inputs, count, composite=rules, batch_size=batch_size)
        self._found, self._source = decompose(samples, asked), samples
        self._concepts = asked.concepts


def _widths(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, Iterable) else (given,)
