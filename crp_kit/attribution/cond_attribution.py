"""Conditional attribution: condition sets in, heatmaps and recorded relevance out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch

from ..conditions import OutputSelector, Pairing, parse_conditions
from ..errors import InputError
from ..graph.elementwise import Elementwise
from ..graph.graph import Graph
from ..graph.recording.inputs import Calling
from ..models.detectors import detector, is_detector
from ..propagation.engine import Engine
from ..propagation.step_choice import BatchNormRule
from ..rules.presets import Biases, Composite, Presets
from .block import CallOptions, attribute_blocks
from .call_arguments import check_data, check_start, checked_batch_size, device_of, layer_names, warning_threshold
from .call_signature import parameters_of
from .masks import MaskMap
from .result import Attribution, join
from .rows import paired
from .start_relevance import InitialRelevance

__all__ = ["CondAttribution"]


class CondAttribution:
    """Conditional attribution of a model: concept relevance propagation.

    Parameters
    ----------
    model : torch.nn.Module
        It is never changed: it runs as a copy that shares its tensors, in evaluation mode. A detector of torchvision
        becomes a `crp_kit.detector`, unless `output` or `inputs` say otherwise.
    output : str, int or callable, optional
        The part of the model's output that is attributed, if that is not one tensor: a key, an index, or a function.
    elementwise : module types, str, or several of them, optional
        Modules whose forward is element-wise, such as activations spelled out in other operations: types, names,
        or patterns for names. Each becomes one node with the rule of activations, unless a composite has another rule
        for its type or name; LRP's presets pass relevance through it unchanged. It is tried whether they do so.
    batch_norm : {"affine", "pass", "epsilon", "threshold"}, optional
        The rule of LRP at a BatchNorm that belongs to no convolution or linear layer, as in DenseNet; see
        `crp_kit.propagation.plan.BatchNormRule`. A composite's own rule for it (other than zennit's Pass) comes first.
    class_axis : int, optional
        The axis of the model's output that enumerates the classes, the batch axis counted: -1 for (batch, box, class).
        It is known for (batch, class), and for an output that a convolution or linear layer makes, such as
        (batch, class, height, width); of any other output a class can be named only with it.
    feature_axis : int or "none", optional
        The axis of the first input that holds its channels or features, the batch axis counted; a heatmap is the sum
        over it. It follows from the first layers that read the input: 1 for images (batch, channel, height, width) and
        signals (batch, channel, length), -1 for tokens (batch, token, feature). Where no layer says it of an input with
        three axes, it has to be chosen. ``"none"``: the heatmap is not summed.
    fixed : str, int, or several of them, optional
        Inputs that belong to all samples alike, such as ``("input_ids", "attention_mask")`` of texts that every image
        is compared with: their names, or their positions in a tuple of inputs. An input whose first axis has another
        size than that of the first one is recognised. The first input that is not fixed says how many samples there
        are, and the heatmap is of it.
    inputs : {"arguments", "single", "samples"}, optional
        How data becomes arguments of the forward. ``"arguments"``: a dictionary gives keyword arguments, a tuple
        positional ones. ``"single"``: a dictionary, tuple or list is one argument as it is, ``model(batch)``.
        ``"samples"``: the forward takes a list with one tensor for each sample, as torchvision's detectors do; the data
        is such a list of tensors of one shape, or all of them as one tensor.
    biases : {"absorb", "distribute"}, optional
        Whether biases absorb their share under a preset, as in zennit, or it is redistributed to the layer's inputs;
        see `crp_kit.rules.presets.preset`. Composites that are objects have their own rules.

    Raises
    ------
    InputError
        If `model` is not a torch.nn.Module.

    References
    ----------
    Achtibat et al., "From attribution maps to human-understandable explanations through concept relevance propagation",
    Nature Machine Intelligence 5, 2023.

    Examples
    --------
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> image, label = ShapesDataset(1)[0]
    >>> attribution = CondAttribution(demo_resnet())
    >>> conditions = [{"layer3.1.conv2": [3], "y": [label]}]
    >>> attribution(demo_preprocess(image)[None], conditions, "epsilon_plus_flat").heatmap.shape
    torch.Size([1, 64, 64])
    """

    def __init__(
        self,
        model: torch.nn.Module,
        output: OutputSelector = None,
        *,
        elementwise: Elementwise | Iterable[Elementwise] = (),
        batch_norm: BatchNormRule = "affine",
        class_axis: int | None = None,
        feature_axis: int | Literal["none"] | None = None,
        fixed: str | int | Iterable[str | int] = (),
        inputs: Calling = "arguments",
        biases: Biases = "absorb",
    ) -> None:
        if not isinstance(model, torch.nn.Module):
            raise InputError(f"model is a torch.nn.Module; got {type(model).__name__}")
        if output is None and inputs == "arguments" and is_detector(model):
            model = detector(model)
        self.model = model
        self.engine = Engine(
            model,
            output,
            elementwise,
            batch_norm,
            class_axis=class_axis,
            feature_axis=feature_axis,
            fixed=fixed,
            inputs=inputs,
        )
        self.biases = biases
        self._presets = Presets(biases)

    def __repr__(self) -> str:
        return f"CondAttribution of {type(self.model).__name__}"

    def generate(
        self,
        data: Any,
        conditions: Any,
        composite: Composite | str | None = None,
        *,
        record_layer: Sequence[str] = (),
        mask_map: MaskMap = None,
        start_layer: str | None = None,
        init_rel: InitialRelevance = None,
        on_device: torch.device | str | None = None,
        exclude_parallel: bool = True,
        pairing: Pairing = "auto",
        batch_size: int | None = None,
        verbose: bool = False,
        diagnose: bool | float = False,
    ) -> Iterator[Attribution]:
        """Return an iterator over blocks of the rows, at most `batch_size` each.

        What can be checked without running the model is checked at once, not at the first block. Nothing is left behind
        if the iterator is abandoned.

        Parameters
        ----------
        data : torch.Tensor
            (batch, channel, height, width) for images; whatever the model takes. A dictionary or tuple gives keyword or
            positional inputs; tuples, lists and dictionaries inside of these are passed on.
        conditions : dict or list of dict
            Condition sets, such as ``[{"layer4.1.conv2": [23], "y": [207]}]``: node name to the concept ids that
            relevance may pass; ``"y"`` is the model output. An empty list of ids lets nothing pass.
        composite : zennit Composite or str, optional
            Rules; a preset name such as ``"epsilon_plus_flat"``; without it plain gradients, as in zennit-crp. (A
            `Study` has rules by default.)
        record_layer : sequence of str, optional
            Nodes whose relevance and activation are returned.
        mask_map : callable, Concept or dict, optional
            A mask function ``mask(concept_ids, shape, *, layer_name) -> factor``, such as ``NeuronConcept().mask``, or
            a dictionary of them by layer. By default concepts are channels, along the axis that the graph knows. In a
            dictionary ``"y"`` is the model output, whose ids are classes by default: with ``{"y": NeuronConcept()}``
            they are index tuples, such as ``{"y": [(class, row, column)]}``.
        start_layer : str, optional
            Start at this node's output instead of the model's.
        init_rel : float, torch.Tensor or callable, optional
            Relevance at the start: a number, values, or a function of the start's own values (the default).
        on_device : torch.device or str, optional
            Where the results are kept; by default where the data is.
        exclude_parallel : bool, optional
            Count only paths on which the conditioned nodes are a maximal chain: shortcuts and other branches past a
            conditioned node carry nothing.
        pairing : {"auto", "zip", "product"}, optional
            ``"zip"``: row i is sample i under condition set i. ``"product"``: every sample under every set, sets
            fastest. ``"auto"``: zip when the lengths agree, else product.
        batch_size : int, optional
            Rows of a block, which share a forward: by default 16, or 64 if all belong to one sample. It changes memory
            and time, not results beyond rounding. Below the conditioned layers fewer of them are carried at once where
            their maps are large.
        verbose : bool, optional
            Show a progress bar.
        diagnose : bool or float, optional
            Record a per-node relevance balance in ``Attribution.conservation``; rows are then computed one by one, and
            relevance that is not finite is reported there instead of being an error. A number is the share of the start
            from which relevance that no rule explains is worth a warning, instead of 0.01.

        Returns
        -------
        iterator of Attribution

        Raises
        ------
        ConditionError
            If a condition set is empty of meaning: unknown layer, id out of range, no start, unequal lengths.
        InputError
            If the data is not floating point, is empty, or has NaN in it.
        CompositeError
            If there is no such composite.
        """
        parsed = parse_conditions(conditions)
        inputs = self.engine.named(data)
        samples = check_data(inputs)
        at_once = checked_batch_size(batch_size, samples)
        rows = paired(samples, parsed, pairing)
        options = CallOptions(
            composite=self.resolve_composite(composite),
            record_layer=layer_names(record_layer),
            mask_map=mask_map,
            start_layer=start_layer,
            init_rel=init_rel,
            on_device=device_of(on_device),
            exclude_parallel=exclude_parallel,
            diagnose=warning_threshold(diagnose),
        )
        check_start(rows, options)
        if options.diagnose is not None:
            at_once = 1
        return attribute_blocks(self.engine, inputs, rows, options, batch_size=at_once, verbose=verbose)

    @parameters_of(generate)
    def __call__(self, *args: Any, **options: Any) -> Attribution:
        """Return the attribution of all rows.

        Returns
        -------
        Attribution
        """
        return join(list(self.generate(*args, **options)))

    def graph(self, sample: Any, composite: Composite | str | None = None) -> Graph:
        """Return the recorded graph for a sample, with all names that conditions can use.

        Parameters
        ----------
        sample : torch.Tensor, tuple or dict
            Model input, (batch, channel, height, width) for images; a batch of one is enough.
        composite : zennit Composite, str or None, optional
            Rules, which decide what is seen as one node; by default plain gradients.

        Returns
        -------
        Graph

        Raises
        ------
        InputError, ModelError
            If the sample is not valid, or the model cannot be recorded.
        """
        check_data(self.engine.named(sample))
        return self.engine.run(sample, self.resolve_composite(composite)).graph

    def resolve_composite(
        self, composite: Composite | str | None, *, input_range: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> Composite | None:
        """Return a composite from its name, the same one each time, so that what is planned for it is kept.

        Parameters
        ----------
        composite : zennit Composite, str or None
            Rules; a preset name such as ``"epsilon_plus_flat"``; ``None`` for plain gradients.
        input_range : (torch.Tensor, torch.Tensor), optional
            Lowest and highest values that a model input can have, by channel.

        Returns
        -------
        zennit Composite or None

        Raises
        ------
        CompositeError
            If there is no such composite.
        """
        return self._presets.resolve(composite, input_range)

    def channel_axis(self, sample: Any, layer: str) -> int | None:
        """Return the axis along which a node keeps its channels, the batch axis counted, or None if it is unknown.

        Parameters
        ----------
        sample : torch.Tensor, tuple or dict
            Model input, (batch, channel, height, width) for images; a batch of one is enough.
        layer : str
            Name of the node, as in condition sets.

        Returns
        -------
        int or None

        Raises
        ------
        UnknownLayerError
            If there is no such node.
        InputError, ModelError
            If the sample is not valid, or the model cannot be recorded.
        """
        check_data(self.engine.named(sample))
        run = self.engine.run(sample, None)
        return run.channel_axes[run.graph.find(layer)]
