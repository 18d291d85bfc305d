"""The study: the public face of crp-kit."""

from __future__ import annotations

from .dataset_analyses import DatasetAnalyses
from .direction_analyses import DirectionAnalyses
from .image_analyses import ImageAnalyses
from .inspections import Inspections

__all__ = ["Study"]


class Study(ImageAnalyses, DirectionAnalyses, DatasetAnalyses, Inspections):
    """A model together with its data, preprocessing, rules, concepts and class names; analyses are its methods.

    Images are given as the data gives them, before `preprocess`: a batch (sample, channel, height, width) or one image.
    Where `preprocess` is a `crp_kit.Preprocess`, also photos of any size: PIL images, names of files, and arrays of
    uint8, (height, width, channel); tensors are never resized. Without `preprocess` they are the model's inputs.

    Parameters
    ----------
    model : torch.nn.Module, LoadedModel or CondAttribution
        It is never changed. A `LoadedModel` brings preprocessing, class names and output, where these are not said
        here; a `CondAttribution` counts with all that it was made with.
    data : map-style dataset, optional
        Gives ``(image, label)`` or dictionaries with both; images before normalisation, as they are to be shown.
    composite : zennit Composite, str or None, optional
        Rules, or the name of a preset; by default ``"epsilon_plus_flat"``. Plain gradients are asked for as
        ``"gradient"`` or ``None``.
    preprocess : callable or Preprocess, optional
        From a batch of images to model inputs. ``"epsilon_gamma_box"`` gets the range of inputs from it. A `Preprocess`
        also opens files.
    concepts : Concept or dict of str to Concept, optional
        What a concept is, for all layers or by layer; channels by default.
    classes : sequence of str, optional
        Names of the model's classes; by default those of the data.
    output : str, int or callable, optional
        Which part of the model's output is attributed, if that is not one tensor.
    class_axis : int, optional
        The axis of the model's output that enumerates the classes, the batch axis counted; see `CondAttribution`.
    feature_axis : int or "none", optional
        The axis of the first input over which a heatmap is summed, such as that of the channels, the batch axis
        counted; by default as the first layers read the input. ``"none"``: the heatmap is not summed.
    fixed : str, int, or several of them, optional
        Inputs that belong to all samples alike, by name or position.
    inputs : {"arguments", "single", "samples"}, optional
        How data becomes arguments of the forward: a dictionary or tuple as its arguments, as one argument, or a list
        with one tensor for each sample.
    biases : {"absorb", "distribute"}, optional
        Whether biases absorb their share under a preset, or it is redistributed to the layer's inputs.
    origin : Origin, optional
        Words for where model and data come from, which atlases keep.

    Raises
    ------
    InputError
        If the model is no module, or settings are given beside a `CondAttribution` that it has already.
    CompositeError
        If there is no such composite.

    Examples
    --------
    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> data = ShapesDataset(64)
    >>> study = crp.Study(demo_resnet(), data, composite="epsilon_plus_flat", preprocess=demo_preprocess)
    >>> image, label = data[0]
    >>> study(image, [{"layer3.1.conv2": [3], "y": [label]}]).heatmap.shape
    torch.Size([1, 64, 64])
    """
