"""Export of an atlas to ViRelAy: reference samples of concepts, and strategies of a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .arguments import check_atlas_argument
from .atlas_builds import AtlasBuilds

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.file.header import Mode
    from ..atlas.questions.strategies import Strategies

__all__ = ["Exports"]


class Exports(AtlasBuilds):
    """Projects for other programs."""

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
        from ..views.virelay import ProjectOptions, export_virelay

        check_atlas_argument(atlas)
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
            options=ProjectOptions(name, batch_size, check=check, overwrite=overwrite, verbose=verbose),
        )

    def export_strategies(
        self,
        strategies: Strategies,
        folder: str | Path,
        *,
        name: str | None = None,
        batch_size: int = 16,
        check: bool = True,
        overwrite: bool = False,
        verbose: bool = False,
    ) -> Path:
        """Write the samples of a class and its strategies as a project that ViRelAy opens, and return its path.

        Each sample is a row with its image and the heatmap of the class. A category has all of them, and one each the
        strategies that have at least 3. Beside clusters by k-means there is that of the strategies, and beside the
        embeddings of `export_virelay` their two spectral coordinates.

        Parameters
        ----------
        strategies : Strategies
            Of an atlas that was made from this model and data; ``atlas[layer].relevance.strategies(cls)``.
        folder : str or Path
            Made if it does not exist.
        name, batch_size, check, overwrite, verbose : optional
            As of `export_virelay`.

        Raises
        ------
        InputError
            If the folder holds an export, or images differ in size from each other or from the model's input.
        AtlasError
            If model or data are not those that the atlas was made from, or a file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(48), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> layer = "layer3.1.conv2"
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers=layer, matrix=True)
        >>> strategies = atlas[layer].relevance.strategies(0, n=2, k=3)
        >>> study.export_strategies(strategies, f"{folder}/project").name
        'project.yaml'
        >>> atlas.close()
        """
        from ..views.virelay import ProjectOptions, export_strategies

        options = ProjectOptions(name, batch_size, check=check, overwrite=overwrite, verbose=verbose)
        return export_strategies(self.subject, strategies, folder, options)
