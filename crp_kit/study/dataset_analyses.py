"""Analyses of the whole dataset: atlases, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data.random_state import random_state_kept
from .base import StudyBase

if TYPE_CHECKING:
    from ..atlas import BuildOptions, ConceptAtlas
    from ..atlas.build.matrix_choice import MatrixChoice
    from ..atlas.build.target_policy import TargetRule
    from ..atlas.file.header import Mode
    from ..atlas.query.references import ConditionedOn, References
    from ..attribution.layer_choice import LayerChoice
    from ..concept_graph import ConceptGraph
    from ..evaluation import Evaluation
    from ..region_map import RegionMap
    from ..targets import Target
    from ..views.report import BuiltReport, Links, ReportOptions

__all__ = ["DatasetAnalyses"]


class DatasetAnalyses(StudyBase):
    """Analyses of the whole dataset."""

    def build_atlas(
        self,
        path: str | Path,
        *,
        layers: LayerChoice | Iterable[LayerChoice],
        target: str | Target | TargetRule = "label",
        k: int = 40,
        k_class: int = 8,
        batch_size: int = 32,
        num_workers: int = 0,
        matrix: MatrixChoice = "auto",
        shard: tuple[int, int] | str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        verbose: bool = True,
        options: BuildOptions | None = None,
    ) -> ConceptAtlas:
        """Collect relevance and activation of every concept over the data into an atlas file, and return it.

        One forward and one relevance pass per batch give, for every chosen layer and concept, the samples of highest
        relevance and of highest activation, over all and by class, and the moments over all samples by class. The file
        is the same, bit for bit, for any number of workers, shards and interruptions, on the same device and number of
        threads.

        Parameters
        ----------
        path : str or Path
            The file to make. While it is made, ``path.partial/`` holds what there is so far.
        layers : str, module type, or several of them
            Names, patterns (``"layer[34].*conv3"``, ``"features.*"``) or types (``torch.nn.Conv2d``).
        target : str, Target or callable, optional
            From which classes relevance starts: ``"label"``, ``"prediction"``, ``"top:P"`` or ``"top:P:N"`` (every
            class of a probability above P, at most N); a target of `crp_kit.targets`, or its text such as
            ``"contrast:281,285"``; or a function of one sample's output and label ids that returns class ids or
            targets. A sample may have several, each of another class; its activation counts once.
        k, k_class : int, optional
            Length of the rankings over all samples, and by class; at most as many as there are samples. `k_class` 0
            leaves rankings by class out.
        batch_size : int, optional
            Another one may change the last bits of scores.
        num_workers : int, optional
            Processes that read images.
        matrix : {"auto", True, "float16", False}, optional
            Keep the scores of every sample as well, which statistics of groups of samples need: in float32, in float16
            (normalised scores only; rankings and moments are of float32 in any case), or not. By default in float32
            while they take at most 1 GB, of all layers by relevance and activation; in float16 what takes at most 8 GB
            in float32; and not if they take more, which is logged.
        shard : (int, int) or str, optional
            ``(i, n)`` or ``"i/n"``, from 0: only this part of the batches, to be joined by `merge_atlases`.
        resume : bool, optional
            Go on where an interrupted build stopped.
        overwrite : bool, optional
            Replace what is there.
        verbose : bool, optional
            Show progress on stderr: a bar on a terminal, else a line at the start, every minute and at the end.
        options : BuildOptions, optional
            Rare settings.

        Returns
        -------
        ConceptAtlas
            For a shard, one that is not complete.

        Raises
        ------
        AtlasError
            If the file cannot be written, exists, or cannot be resumed because something differs; the message says
            what.
        InputError
            If there is no data, the dataset is empty, or a sample cannot be used; the message names it.
        UnknownLayerError, UnreachableLayerError, ConceptAxisError
            If a layer cannot be recorded.
        KeyboardInterrupt, SystemExit
            After Ctrl-C or SIGTERM, when the batch at hand has been finished and everything has been saved.

        References
        ----------
        R. Achtibat et al., From attribution maps to human-understandable explanations through Concept Relevance
        Propagation, Nature Machine Intelligence 5, 2023: relevance maximization.
        """
        from ..atlas import BuildOptions, Origin
        from ..atlas.build.dataset_pass import build_atlas
        from ..atlas.build.settings import Settings

        settings = Settings(
            layers=layers,
            target=target,
            k=k,
            k_class=k_class,
            batch_size=batch_size,
            num_workers=num_workers,
            matrix=matrix,
            shard=shard,
            resume=resume,
            origin=self.origin or Origin(),
            **vars(options or BuildOptions()),
        )
        with random_state_kept():
            return build_atlas(self.subject, path, settings, overwrite=overwrite, verbose=verbose)

    def add_matrix(
        self,
        atlas: ConceptAtlas,
        *,
        matrix: MatrixChoice = "auto",
        target: TargetRule | None = None,
        num_workers: int = 0,
        verbose: bool = True,
    ) -> ConceptAtlas:
        """Add the scores of every sample to a finished atlas that is without them, and return it.

        They are computed again in one pass, in the batches of the build. Everything else in the file stays as it is.
        The file is written anew beside its place, read back, and renamed at the end: an interruption leaves it as it
        was.

        Parameters
        ----------
        atlas : ConceptAtlas
            Made from this model and data. It stays open, and as it was.
        matrix : {"auto", True, "float16"}, optional
            As in `build_atlas`.
        target : callable, optional
            The function by which the build chose targets, if it was one.
        num_workers : int, optional
            Processes that read images.
        verbose : bool, optional
            Show progress on stderr.

        Returns
        -------
        ConceptAtlas
            The same file, opened anew.

        Raises
        ------
        AtlasError
            If model, data, rules or settings are not those of the atlas, it is not complete, or cannot be written.
        InputError
            If it has a matrix already, the matrix is too large, the function is missing, or a sample cannot be read any
            more.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> with study.build_atlas(f"{folder}/atlas.h5", layers="layer3.1.conv2", matrix=False) as old:
        ...     atlas = study.add_matrix(old)
        >>> atlas["layer3.1.conv2"].relevance.matrix.shape
        (8, 64)
        >>> atlas.close()
        """
        from ..atlas import Origin
        from ..atlas.build.added_matrix import add_matrix

        with random_state_kept():
            return add_matrix(
                self.subject,
                atlas,
                self.origin or Origin(),
                matrix=matrix,
                target=target,
                num_workers=num_workers,
                verbose=verbose,
            )

    @property
    def evaluate(self) -> Evaluation:
        """Evaluations of concepts: ``study.evaluate.flipping(layer)`` and others."""
        from ..evaluation import Evaluation

        return Evaluation(self.subject)

    def check_atlas(self, atlas: ConceptAtlas) -> None:
        """Make sure that an atlas was made from this model and this data.

        Parameters
        ----------
        atlas : ConceptAtlas
            The open atlas.

        Raises
        ------
        AtlasError
            If it was made from others, or does not say.
        """
        from ..atlas.query.reference_maps import check_origin

        check_origin(atlas, self.subject)

    def references(
        self,
        atlas: ConceptAtlas,
        layer: str,
        concept: int,
        *,
        mode: Mode = "relevance",
        k: int = 8,
        receptive_field: bool = False,
        conditioned_on: ConditionedOn = "class",
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
        conditioned_on : {"class", "prediction", "layer"}, optional
            Where the relevance of the heatmaps starts. The class for which the sample came into the ranking (by
            activation, the sample's first target; the predicted class if there is none): ``{layer: [concept],
            "y": [class]}``. The predicted class. Or the layer itself: what made the concept active, whether the model
            used it or not.
        cls : int or str, optional
            The ranking of this class only, by number or name.
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
            Of a concept graph by layer and concept: images (channel, height, width). Of a region map by concept: pairs
            of an image and its conditional heatmap.

        Raises
        ------
        AtlasError, UnknownLayerError, InputError
            If the atlas was made from another model or data, has none of the layers, or the map is of no image.
        """
        from ..concept_graph import ConceptGraph
        from ..concept_graph.pictures import graph_references
        from ..region_map.references import region_references

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
            If nothing is chosen, a number is out of range, `links` is another word, a sample is no image, the folder
            cannot be written or is not to be replaced, or another process is making it.
        """
        from ..views.report import ReportOptions, build_report

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

    def export_virelay(
        self,
        atlas: ConceptAtlas,
        folder: str | Path,
        layer: str,
        *,
        concept_ids: Sequence[int] | None = None,
        top: int = 6,
        k: int = 40,
        mode: Mode = "relevance",
        conditioned_on: Literal["class", "prediction"] = "class",
        name: str | None = None,
        batch_size: int = 16,
        check: bool = True,
        overwrite: bool = False,
        verbose: bool = False,
    ) -> Path:
        """Write a project that ViRelAy opens, and return the path of its ``project.yaml``.

        For each concept its reference samples are the rows of a category, with the images, their conditional heatmaps
        (input relevance of the concept), and 2-D embeddings of how the relevance of each sample is shared out among all
        concepts of the layer. A further category has all rows. Start it with ``virelay FOLDER/project.yaml``.

        Parameters
        ----------
        atlas : ConceptAtlas
            Made from this model and data.
        folder : str or Path
            Made if it does not exist.
        layer : str
            Name of a layer of the atlas.
        concept_ids : sequence of int, optional
            By default those with the highest mean score over all samples.
        top : int, optional
            How many these are.
        k : int, optional
            Reference samples of each concept, at most as many as the atlas holds.
        mode : {"relevance", "activation"}, optional
            Which ranking: RelMax or ActMax.
        conditioned_on : {"class", "prediction"}, optional
            Where the relevance starts: the class for which the sample came into the ranking, or the predicted one.
        name : str, optional
            What to call the project.
        batch_size : int, optional
            Heatmaps that are computed at once, at most: fewer where a sample takes much memory in the model. They are
            kept in memory until they are written: 0.8 MB each, with their images, for 224×224 pixels.
        check : bool, optional
            Make sure that model and data are the atlas's own.
        overwrite : bool, optional
            Replace an export that the folder already holds.
        verbose : bool, optional
            Show a progress bar.

        Raises
        ------
        InputError
            If the folder holds an export, a concept has fewer than 3 reference samples, there is no such mode, or
            images differ in size from each other or from the model's input.
        AtlasError
            If model or data are not those that the atlas was made from, or a file cannot be written.
        UnknownLayerError, ConceptRangeError
            If the atlas has no such layer, or the layer no such concept.
        """
        from ..views.virelay import export_virelay

        return export_virelay(
            self.subject,
            atlas,
            folder,
            layer,
            concept_ids=concept_ids,
            top=top,
            k=k,
            mode=mode,
            conditioned_on=conditioned_on,
            name=name,
            batch_size=batch_size,
            check=check,
            overwrite=overwrite,
            verbose=verbose,
        )
