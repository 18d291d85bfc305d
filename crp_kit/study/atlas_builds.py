"""Builds of atlases of the data of a study."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.random_state import random_state_kept
from .arguments import check_atlas_argument
from .base import StudyBase

if TYPE_CHECKING:
    from ..atlas import BuildOptions, ConceptAtlas
    from ..atlas.build.matrix_choice import MatrixChoice
    from ..atlas.build.target_policy import TargetRule
    from ..attribution.layer_choice import LayerChoice
    from ..targets import Target

__all__ = ["AtlasBuilds"]


class AtlasBuilds(StudyBase):
    """Builds of atlases, and whether an atlas belongs to a study."""

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
            Names, patterns (``"layer[34].*conv3"``, ``"features.*"``) or types (``torch.nn.Conv2d``). A pattern that
            fits a layer and the node behind its activation function chooses the latter.
        target : str, Target or callable, optional
            From which classes relevance starts: ``"label"``, ``"prediction"``, ``"top:P"`` or ``"top:P:N"`` (every
            class of a probability above P, at most N). Of a segmentation ``"regions"`` or ``"regions:SHARE"``, each
            class over the positions where it has the highest score, and ``"masks"``, each class of the mask that is the
            label, where the model sees it too. Of a detector ``"boxes"`` or ``"boxes:SCORE"``, the best box of each
            class. Of one logit ``"binary"``, by labels 0 and 1, or ``"binary:prediction"``, by its sign. A target of
            `crp_kit.targets`, or its text such as ``"contrast:281,285"``: labels may then be of any type. Or a function
            of one sample's output and label ids that returns class ids or targets. A sample may have several, each of
            another class; its activation counts once.
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
        target: Target | TargetRule | None = None,
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
        target : callable or Target, optional
            The function or target of the build, where the file has its name alone.
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
            If model, data, rules or settings are not those of the atlas, it is not complete, cannot be written, or has
            been changed by another process meanwhile.
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

        check_atlas_argument(atlas)
        check_origin(atlas, self.subject)
