"""Analyses of the whole dataset: what is made of an atlas, and evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .arguments import check_atlas_argument
from .exports import Exports

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.file.header import Mode
    from ..atlas.query.embeddings import EmbeddingFunction, WordEmbedding
    from ..atlas.query.references import ConditionedOn, References
    from ..atlas.questions.embedding_naming import WordNames
    from ..concept_graph import ConceptGraph
    from ..evaluation import Evaluation
    from ..region_map import RegionMap
    from ..targets import Target
    from ..views.report import BuiltReport, Links, ReportOptions

__all__ = ["DatasetAnalyses"]


class DatasetAnalyses(Exports):
    """Analyses of the whole dataset."""

    @property
    def evaluate(self) -> Evaluation:
        """Evaluations of concepts: ``study.evaluate.flipping(layer)`` and others."""
        from ..evaluation import Evaluation

        return Evaluation(self.subject)

    def references(
        self,
        atlas: ConceptAtlas,
        layer: str,
        concept: int,
        *,
        mode: Mode = "relevance",
        k: int = 8,
        receptive_field: bool = False,
        conditioned_on: ConditionedOn | Target = "class",
        cls: int | str | None = None,
        batch_size: int = 16,
        check: bool = True,
    ) -> References:
        """Return the samples in which a concept is strongest, with their conditional heatmaps.

        Parameters
        ----------
        atlas : ConceptAtlas
            Made from this model and data.
        layer : str
            Name of a layer of the atlas.
        concept : int
            Number of the concept in the layer, from 0.
        mode : {"relevance", "activation"}, optional
            Which ranking: RelMax or ActMax.
        k : int, optional
            How many samples; fewer, if the ranking has no more.
        receptive_field : bool, optional
            Return, for each sample, the box of the input that the neuron at the stored position sees, and the relevance
            that passes this neuron alone. The box is exact and belongs to the architecture, whatever the weights and
            the image: it is what relevance reaches from the neuron if every weight counts as one, so that nothing
            cancels (see `crp_kit.rules.receptive_field`). Paths through factors, such as gates, do not count, as for
            every heatmap; of a maximum that is no pooling, one winner is seen.
        conditioned_on : {"class", "prediction", "layer"} or Target, optional
            Where the relevance of the heatmaps starts. The class for which the sample came into the ranking (by
            activation, the sample's first target; the predicted class if there is none): ``{layer: [concept],
            "y": [class]}``. The predicted class. The layer itself: what made the concept active, whether the model used
            it or not. Or a target of `crp_kit.targets`.
        cls : int or str, optional
            The ranking of this class only, by number, name or part of a name.
        batch_size : int, optional
            Heatmaps that are computed at once, at most: fewer where a sample takes much memory in the model.
        check : bool, optional
            Make sure that model and data are the atlas's own.

        Returns
        -------
        references : References
            Samples, images, heatmaps, receptive fields; ``plot()`` draws them.

        Raises
        ------
        AtlasError
            If model or data are not those that the atlas was made from, what a concept is was something else then, or
            no class of a sample is known.
        UnknownLayerError, ConceptRangeError
            If the atlas has no such layer, or the layer no such concept.
        InputError
            If `mode` or `conditioned_on` is another word, the atlas holds less than `k` per ranking, a sample cannot be
            read or is no image, or receptive fields are asked for of a concept that does not choose neurons.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> with study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2") as atlas:
        ...     references = study.references(atlas, "layer2.1.conv2", 24, k=4)
        >>> references.heatmaps[0].shape
        torch.Size([64, 64])
        """
        from ..atlas.query.references import find_references

        check_atlas_argument(atlas)
        return find_references(
            self.subject,
            atlas[layer],
            concept,
            mode=mode,
            k=k,
            receptive_field=receptive_field,
            conditioned_on=conditioned_on,
            cls=cls,
            batch_size=batch_size,
            check=check,
        )

    def name_concepts(
        self,
        atlas: ConceptAtlas,
        layer: str,
        embed: EmbeddingFunction,
        words: Mapping[str, Any] | Sequence[str],
        *,
        vectors: Any | WordEmbedding = None,
        mode: Mode = "relevance",
        k: int = 20,
        seed: int = 0,
    ) -> WordNames:
        """Return a name for each concept of a layer: the word that its references are nearest to in your embedding.

        A model of images and words, such as CLIP, embeds both. A concept's similarity to a word is the mean cosine of
        its references with it. As some words are near to all images, it is compared with that of the references of all
        concepts together, and the word of the largest difference is the name. It is distinguishable from chance if as
        many random ones of these references rarely exceed what is expected of any word by as much, at a false discovery
        rate of 5 % over the concepts. So what all concepts of the layer have in common names none of them.
        `LayerAtlas.name_concepts` names concepts by attributes of the samples.

        Parameters
        ----------
        atlas : ConceptAtlas
            Made from this model and data.
        layer : str
            Name of a layer of the atlas.
        embed : callable
            From a list of images as the data gives them, (channel, height, width) each, to embeddings (image, feature).
            It is called with at most 64 images at once.
        words : dict of str to array, or sequence of str
            Words to choose from, at least two, with their embeddings (feature,) or without.
        vectors : array or callable, optional
            Embeddings of words without: (word, feature), or a function that returns it for a list of words.
        mode : {"relevance", "activation"}, optional
            What ranks the references.
        k : int, optional
            References of each concept, at most as many as the atlas holds.
        seed : int, optional
            Of the random references.

        Returns
        -------
        WordNames
            A row for each concept; its `save` keeps the names beside the atlas.

        Raises
        ------
        AtlasError
            If model or data are not those that the atlas was made from.
        UnknownLayerError
            If the atlas has no such layer.
        InputError
            If an embedding function fails or returns something else, words repeat or are fewer than two, or the atlas
            has no reference of a concept, or fewer than `k`.

        References
        ----------
        Oikarinen and Weng, "CLIP-Dissect: automatic description of neuron representations in deep vision networks",
        ICLR 2023.

        Dreyer et al., "Mechanistic understanding and validation of large AI models with SemanticLens", Nature Machine
        Intelligence 7, 2025.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", verbose=False)
        >>> colours = {"red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1]}
        >>> def embed(images):
        ...     return [image.mean((1, 2)).tolist() for image in images]
        >>> names = study.name_concepts(atlas, "layer2.1.conv2", embed, colours)
        >>> list(names.columns())
        ['concept', 'name', 'n', 'similarity', 'low', 'high', 'expected', 'p', 'q']
        >>> str(names.name[0]) in colours
        True
        >>> atlas.close()
        """
        from ..atlas.query.embeddings import concepts_named_by_words, word_vectors

        check_atlas_argument(atlas)
        known = word_vectors(words, vectors)
        return concepts_named_by_words(self.subject, atlas[layer], embed, known, mode=mode, k=k, seed=seed)

    def reference_pictures(
        self,
        result: ConceptGraph | RegionMap,
        atlas: ConceptAtlas,
        *,
        k: int = 1,
        receptive_field: bool = True,
        most: int = 9,
    ) -> dict[Any, Any]:
        """Return reference samples of the concepts of a result, for its ``plot(references=…)``.

        Parameters
        ----------
        result : ConceptGraph or RegionMap
            What `Study.concept_graph` or `Study.region_map` has returned.
        atlas : ConceptAtlas
            Made from this model and data.
        k : int, optional
            Samples of each concept.
        receptive_field : bool, optional
            Of a concept graph: what the strongest neuron sees of each sample, instead of the whole image.
        most : int, optional
            Of a region map: for so many of its concepts, those with the largest areas.

        Returns
        -------
        dict
            By layer and concept of a concept graph, or by concept of a region map: pairs of an image, (channel, height,
            width), and its conditional heatmap, (height, width).

        Raises
        ------
        AtlasError, UnknownLayerError, InputError
            If the atlas was made from another model or data, has none of the layers, or the map is of no image.
        """
        from ..concept_graph import ConceptGraph
        from ..concept_graph.pictures import graph_references
        from ..region_map.references import region_references

        check_atlas_argument(atlas)
        if isinstance(result, ConceptGraph):
            return dict(graph_references(self.subject, result, atlas, k=k, receptive_field=receptive_field))
        return dict(region_references(self.subject, result, atlas, k=k, most=most))

    def report(
        self,
        atlas: ConceptAtlas,
        path: str | Path,
        *,
        layers: str | Iterable[str] | None = None,
        concept_ids: Iterable[int] | Mapping[str, Iterable[int]] | None = None,
        references: int = 8,
        conditioned_on: ConditionedOn = "class",
        receptive_field: bool = True,
        links: Links | Literal["correlation", "graph"] = "correlation",
        overwrite: bool = False,
        verbose: bool = True,
        options: ReportOptions | None = None,
    ) -> BuiltReport:
        """Make a static site of an atlas, and return where it is and how large.

        The folder opens in a browser from disk, without a server or a network: an overview, a page for every layer,
        concept and class, each with an address of its own (``index.html#/LAYER/CONCEPT``), and a search. Two builds
        differ in one line, which has date, time and size.

        Parameters
        ----------
        atlas : ConceptAtlas
            Made from this model and data.
        path : str or Path
            The folder to make. It has this name only when it is whole.
        layers : str or several, optional
            Names, or patterns for names, of the atlas's layers; all by default.
        concept_ids : sequence of int, or dict of str to sequence of int, optional
            These concepts only, of every layer or by layer; a dictionary without `layers` chooses its layers too.
        references : int, optional
            Samples of each concept by relevance (RelMax), and as many by activation (ActMax); fewer, if the atlas has
            no more.
        conditioned_on : {"class", "prediction", "layer"}, optional
            Where the relevance of the heatmaps starts, as in `references`.
        receptive_field : bool, optional
            Show what the strongest neuron sees of each sample.
        links : {"correlation", "graph"} or Links, optional
            Links of concepts to those of other layers. The correlation of their relevance over the samples, if the
            atlas has a matrix; else none are shown. The edges of mean concept graphs over at most four samples of each
            concept: a third to a half more time in all. Or any others.
        overwrite : bool, optional
            Replace an earlier report; nothing else is ever replaced.
        verbose : bool, optional
            Show progress on stderr, as `build_atlas` does.
        options : ReportOptions, optional
            Rare settings.

        Returns
        -------
        BuiltReport

        Raises
        ------
        AtlasError
            If model or data are not those that the atlas was made from.
        UnknownLayerError, ConceptRangeError
            If the atlas has no such layer, or a layer no such concept.
        InputError
            If nothing is chosen, a number is out of range, `links` is another word, a sample is neither image nor
            signal, the folder cannot be written or is not to be replaced, or another process is making it.
        """
        from ..views.report import ReportOptions, build_report

        check_atlas_argument(atlas)
        return build_report(
            self.subject,
            atlas,
            path,
            layers=layers,
            concept_ids=concept_ids,
            references=references,
            conditioned_on=conditioned_on,
            receptive_field=receptive_field,
            links=links,
            overwrite=overwrite,
            verbose=verbose,
            options=options or ReportOptions(),
        )
