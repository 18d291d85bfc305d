"""Analyses of single images: concept graphs and region maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .base import StudyBase

if TYPE_CHECKING:
    from ..attribution.layer_choice import LayerChoice
    from ..concept_graph import ConceptGraph
    from ..concept_graph.decompose import Rank
    from ..region_map import RegionMap
    from ..region_map.segments import Regions
    from ..targets import Target

__all__ = ["ImageAnalyses"]


class ImageAnalyses(StudyBase):
    """Analyses of single images."""

    def forward_from(self, layer: str, activations: torch.Tensor, image: Any = None) -> torch.Tensor:
        """Return the model's output for other values of one node, without running again what comes before it.

        What by-passes the node, such as a shortcut, has the values that the image gives.

        Parameters
        ----------
        layer : str
            Name of the node.
        activations : torch.Tensor
            Values of the node, (row, *shape) as for one sample.
        image : torch.Tensor or other inputs, optional
            One image; by default the first sample of the data.

        Returns
        -------
        torch.Tensor
            (row, class), or (row, ...) as the model has it for one sample.

        Raises
        ------
        UnknownLayerError
            If there is no such node.
        ConditionError
            If the model's output does not depend on it.
        InputError
            If the values have another shape, or it is not one image.
        """
        from ..evaluation.forward_from import forward_from

        return forward_from(self.attribution, self._example(image), layer, activations)

    def concept_graph(
        self,
        images: Any,
        *,
        start: Mapping[str, Any] | tuple[str, int] | None = None,
        layers: LayerChoice | Iterable[LayerChoice] | None = None,
        width: int | Sequence[int] = (5, 3),
        min_share: float = 0.0,
        rank: Rank = "absolute",
        exclude_parallel: bool = True,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> ConceptGraph:
        """Return a class or a concept, decomposed into the concepts of the layers before it.

        The children of a concept are those that get most of its relevance in the layers that feed its own layer. An
        edge is the relevance of the lower concept in the pass that is conditioned on the upper one *and on the start of
        the graph*: ``{"layer3.1.conv2": [7], "y": [207]}`` for the children of channel 7. So a concept has one
        decomposition, whatever the ways that lead to it, and stands in the graph once. It is not conditioned on the
        chain of concepts in between: for one chain, call the study with all of it, such as ``{"layer4.1.conv2": [23],
        "layer3.1.conv2": [7], "y": [207]}``, with ``record_layer``.

        A pass ends at the first layer of the graph that it meets, so that a layer which is fed both directly and
        through another one is not counted twice: the shares of all concepts of the layers below, and what is absorbed
        by biases or passes beside these layers, sum to 1. Connections past a concept, such as shortcuts, do not count.

        Parameters
        ----------
        images : torch.Tensor or other inputs
            One image; or several, such as those of one class, whose mean graph is returned: each edge then has the mean
            of its shares over the images in which its source carries relevance, their standard deviation, and how many
            they are; the concepts to keep are chosen by this mean.
        start : dict or (str, int), optional
            What is decomposed: a class, ``{"y": [207]}`` or ``{"y": ["tabby"]}`` (for one image by default the
            predicted one); a target, ``{"y": [Contrast(207, 208)]}``; a concept, ``("layer4.1.conv2", 23)``, where
            relevance starts from the concept's own activation, whether the model uses it or not; or a concept as far as
            it serves a class or target, ``{"layer4.1.conv2": [23], "y": [207]}``.
        layers : str, module type, or several of them, optional
            The layers to decompose into, in any order: names, patterns or module types, as for `build_atlas`. By
            default all convolutions and linear layers. Those that feed a layer are found in the recorded graph, through
            functional operations, concatenations and shortcuts.
        width : int or sequence of int, optional
            Children that are kept of the root, of each of these, and so on; over all layers that feed a concept
            together. A concept that is met again at another depth is not decomposed again.
        min_share : float, optional
            Children below this share, in magnitude, are left out.
        rank : {"absolute", "signed"}, optional
            Keep the concepts with most relevance of either sign, or those that speak most for the start.
        exclude_parallel : bool, optional
            ``False`` lets relevance past the concepts too, as zennit-crp does: what the children of a concept get is
            then not its own relevance alone.
        batch_size : int, optional
            Relevance passes that run at once.
        verbose : bool, optional
            Show a progress bar.

        Returns
        -------
        ConceptGraph

        Raises
        ------
        UnknownLayerError, ConceptRangeError
            If there is no such layer or concept.
        UnreachableLayerError
            If a layer does not feed the start, or none does.
        ConditionError
            If start, width, min_share or rank has no meaning, or the start has no relevance.

        References
        ----------
        R. Achtibat et al., From attribution maps to human-understandable explanations through Concept Relevance
        Propagation, Nature Machine Intelligence 5, 2023: Fig. 3d.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess)
        >>> image, label = study.data[0]
        >>> graph = study.concept_graph(image, layers=["layer2.1.conv2", "layer3.1.conv2"], width=(2, 2))
        >>> len(graph.children(graph.root)), graph.layers
        (2, ('layer2.1.conv2', 'layer3.1.conv2', 'y'))
        """
        from ..concept_graph import concept_graph

        return concept_graph(
            self.subject,
            self.inputs(images),
            start=self.subject.conditions(start) if isinstance(start, Mapping) else start,
            layers=layers,
            width=width,
            min_share=min_share,
            rank=rank,
            exclude_parallel=exclude_parallel,
            batch_size=batch_size,
            verbose=verbose,
        )

    def node_heatmaps(
        self, graph: ConceptGraph, image: Any, *, batch_size: int = 16
    ) -> dict[tuple[str, int], torch.Tensor]:
        """Return the conditional heatmap of each node of the concept graph of an image, for ``graph.plot(heatmaps=…)``.

        Parameters
        ----------
        graph : ConceptGraph
            The concept graph of one image.
        image : torch.Tensor or other inputs
            The image that the graph is of.
        batch_size : int, optional
            Heatmaps that are computed at once.

        Returns
        -------
        dict
            By layer and concept: (height, width).
        """
        from ..concept_graph.pictures import node_heatmaps

        return node_heatmaps(self.subject, graph, self.inputs(image), batch_size=batch_size)

    def region_map(
        self,
        image: Any,
        layer: str,
        *,
        cls: int | str | None = None,
        target: Target | None = None,
        regions: Regions = "grid",
        count: int | tuple[int, ...] | None = None,
        cell: int | tuple[int, ...] | None = None,
        top: int | None = None,
        signed: bool = False,
        exclude_parallel: bool = True,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> RegionMap:
        """Return which concept of a layer has the highest conditional relevance in each region of an image.

        For every concept its conditional heatmap is computed and summed over each region's pixels; never more than a
        batch of heatmaps is kept. Achtibat et al. (Nature Machine Intelligence 5, 2023, Fig. 3c) call this a concept
        atlas; here it is a region map, and a concept atlas is the file that a whole dataset makes.

        Parameters
        ----------
        image : torch.Tensor, PIL image or array
            One image, as the data gives it; it is drawn below, and SLIC follows its edges. Also one signal,
            (1, channel, time), whose regions are stretches of time, or one volume, (1, channel, depth, height, width),
            whose regions are boxes.
        layer : str
            Name of the node whose concepts compete.
        cls : int or str, optional
            The class whose relevance it is, by number, name or part of a name; by default the predicted one.
        target : Target, optional
            What relevance starts from instead of a class, such as ``crp_kit.targets.Contrast(281, 285)``.
        regions : {"grid", "pixels", "slic", "changes"} or array, optional
            Rectangles, or equal stretches of a signal, or boxes of a volume; single pixels, time steps or voxels;
            superpixels, which need scikit-image; the stretches of a signal between the changes of its level, by binary
            segmentation; or labels of another segmentation, whole numbers (height, width), or of the signal's or
            volume's shape, which are numbered anew from 0 in their own order.
        count : int or tuple of int, optional
            About how many regions a grid, SLIC or changes make, 64 by default and 16 of a signal; for a grid also how
            many along each axis.
        cell : int or tuple of int, optional
            Side length of a grid's cells in pixels, or their length along each axis, instead of `count`.
        top : int, optional
            Only the concepts with the largest shares in the relevance of the layer, by magnitude if `signed`.
        signed : bool, optional
            Let the largest magnitude win, so that concepts against the class may dominate. Otherwise the highest
            relevance wins, and where none is positive there is no dominant concept.
        exclude_parallel : bool, optional
            Count only paths through the concepts, not shortcuts past their layer.
        batch_size : int, optional
            Relevance passes that run at once.
        verbose : bool, optional
            Show a progress bar.

        Returns
        -------
        RegionMap
            Of equal concepts the lowest number dominates.

        Raises
        ------
        InputError
            If it is not one image, or there are no such regions.
        UnknownLayerError, UnreachableLayerError, ConceptAxisError, ConceptRangeError
            If there is no such layer, no relevance arrives there, its channels are not known, or there is no such
            class.
        ConditionError
            If `top` is not at least 1.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess)
        >>> regions = study.region_map(study.data[0][0], "layer2.1.conv2", count=(4, 4), top=8)
        >>> regions.dominant.shape, regions.concept_map.shape
        ((16,), (64, 64))
        """
        from ..region_map import region_map

        return region_map(
            self.subject,
            image,
            layer,
            cls=cls,
            target=target,
            regions=regions,
            count=count,
            cell=cell,
            top=top,
            signed=signed,
            exclude_parallel=exclude_parallel,
            batch_size=batch_size,
            verbose=verbose,
        )
