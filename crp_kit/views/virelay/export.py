"""The export to ViRelAy, from an atlas to a project folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...atlas.file.schema import Kind
from ...atlas.query.reference_maps import check_origin
from ...attribution.cond_attribution import CondAttribution
from ...concepts import Concept
from ...data.preprocess import Normalise, Preprocess, preprocessing
from ...data.samples import NumberedSamples
from ...errors import InputError
from ...rules.presets import Composite
from .files import PROJECT, check_folder, write_project
from .rows import Maker, choose_rows

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["export_virelay"]


def export_virelay(
    atlas: ConceptAtlas,
    dataset: Any,
    folder: str | Path,
    *,
    attribution: CondAttribution,
    composite: Composite | str | None,
    layer: str,
    concepts: Sequence[int] | None = None,
    top: int = 6,
    k: int = 40,
    mode: Kind = "relevance",
    conditioned_on: Literal["class", "prediction"] = "class",
    preprocess: Preprocess | Normalise | None = None,
    kinds: Concept | Mapping[str, Concept] | None = None,
    name: str | None = None,
    composite_name: str | None = None,
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
    dataset : map-style dataset
        The one that the atlas was made from.
    folder : str or Path
        Made if it does not exist.
    attribution : CondAttribution
        Of the model that the atlas was made from.
    composite : zennit Composite, str or None
        Rules for the heatmaps.
    layer : str
    concepts : sequence of int, optional
        By default those with the highest mean score over all samples.
    top : int, optional
        How many these are.
    k : int, optional
        Reference samples of each concept, at most as many as the atlas holds.
    mode : {"relevance", "activation"}, optional
        Which ranking: RelMax or ActMax.
    conditioned_on : {"class", "prediction"}, optional
        Where the relevance starts: the class for which the sample came into the ranking, or the predicted one.
    preprocess : callable or Preprocess, optional
        As in `crp_kit.build_atlas`.
    kinds : Concept or dict, optional
        What a concept is in the layer: `concepts` of `crp_kit.build_atlas`.
    name, composite_name : str, optional
        What to call the project and the rules.
    batch_size : int, optional
        Heatmaps that are computed at once. All of them are kept in memory until they are written: 0.6 MB each for
        images of 224×224 pixels.
    check : bool, optional
        Make sure that model and dataset are the atlas's own.
    overwrite : bool, optional
        Replace an export that the folder already holds.
    verbose : bool, optional
        Show a progress bar.

    Raises
    ------
    InputError
        If the folder holds an export, a concept has fewer than 3 reference samples, there is no such mode, or images
        differ in size from each other or from the model's input.
    AtlasError
        If model or dataset are not those that the atlas was made from, or a file cannot be written.
    UnknownLayerError, ConceptRangeError
        If the atlas has no such layer, or the layer no such concept.

    Examples
    --------
    >>> import tempfile
    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> folder, data, attribution = tempfile.TemporaryDirectory(), ShapesDataset(16), CondAttribution(demo_resnet())
    >>> asked = {"composite": "epsilon_plus_flat", "preprocess": demo_preprocess}
    >>> with crp.build_atlas(attribution, data, f"{folder.name}/atlas.h5", layers="layer2.1.conv2", **asked) as atlas:
    ...     project = export_virelay(atlas, data, f"{folder.name}/project", attribution=attribution,
    ...                              layer="layer2.1.conv2", concepts=[24], k=4, **asked)
    >>> project.name
    'project.yaml'
    >>> folder.cleanup()
    """
    place = Path(folder)
    check_folder(place, overwrite=overwrite)
    if conditioned_on not in ("class", "prediction"):
        raise InputError(f"conditioned_on is 'class' or 'prediction'; got {conditioned_on!r}")
    view, normalise = preprocessing(preprocess)
    samples = NumberedSamples(dataset, view)
    if check:
        check_origin(atlas, attribution, samples)
    rows = choose_rows(atlas, layer, concepts, top=top, k=k, mode=mode, conditioned_on=conditioned_on)
    rules = attribution.resolve_composite(composite)
    maker = Maker(attribution, rules, atlas[layer].info, samples, normalise, kinds)
    shown = maker.shown(rows, batch_size=batch_size, verbose=verbose)
    words = {
        "name": name or f"{layer} of {atlas.header.model}",
        "model": atlas.header.model,
        "dataset": atlas.header.dataset,
        "method": f"CRP at {layer}, {composite_name or _name_of(composite)}",
        "strategy": "true_label" if conditioned_on == "class" else "predicted_label",
    }
    write_project(place, rows, shown, classes=atlas.classes, words=words)
    return place / PROJECT


def _name_of(composite: Composite | str | None) -> str:
    return composite if isinstance(composite, str) else "gradient" if composite is None else type(composite).__name__
