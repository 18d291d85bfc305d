"""Conditional attribution: condition sets in, heatmaps and recorded relevance out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from tqdm import tqdm

from ..checks import check_integer
from ..conditions import OutputSelector, Pairing, parse_conditions
from ..errors import ConditionError, InputError
from ..graph.elementwise import Elementwise
from ..graph.graph import Graph
from ..graph.recording.inputs import Calling, Inputs
from ..models.detectors import detector, is_detector
from ..numerics import count_not_finite
from ..propagation.engine import Engine
from ..propagation.plan import BatchNormRule
from ..rules.presets import Biases, Composite, preset
from .block import CallOptions, attribute_block
from .call_signature import parameters_of
from .masks import MaskMap
from .result import Attribution, join
from .rows import Rows, paired
from .start_relevance import InitialRelevance, target_of

__all__ = ["CondAttribution", "check_data"]

_BATCH_SIZE = 16
_BATCH_SIZE_OF_ONE_SAMPLE = 64
_UNEXPLAINED_SHARE = 0.01


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
        preset(None, biases=biases)
        self._presets: dict[tuple[str, str], Composite | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickling and copying keep: the model and its settings, not what was recorded."""
        return {**vars(self), "_presets": {}}

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
        at_once = _checked_batch_size(batch_size, samples)
        rows = paired(samples, parsed, pairing)
        options = CallOptions(
            composite=self.resolve_composite(composite),
            record_layer=_layer_names(record_layer),
            mask_map=mask_map,
            start_layer=start_layer,
            init_rel=init_rel,
            on_device=_device(on_device),
            exclude_parallel=exclude_parallel,
            diagnose=_threshold(diagnose),
        )
        _check_start(rows, options)
        return self._blocks(
            inputs, rows, options, batch_size=at_once if options.diagnose is None else 1, verbose=verbose
        )

    @parameters_of(generate)
    def __call__(self, *args: Any, **options: Any) -> Attribution:
        """Return the attribution of all rows.

        Returns
        -------
        Attribution
        """
        return join(list(self.generate(*args, **options)))

    def _blocks(
        self, inputs: Inputs, rows: Rows, options: CallOptions, *, batch_size: int, verbose: bool
    ) -> Iterator[Attribution]:
        run, ran = None, None
        self.engine.check_samples(inputs, options.composite)
        with tqdm(total=len(rows), unit="map", disable=not verbose) as bar:
            for block in rows.blocks(batch_size):
                if run is None or ran != block.samples:
                    run, ran = self.engine.run(inputs.part(block.sample_slice), options.composite), block.samples
                part = attribute_block(run, block, options)
                for problem in part.conservation.warnings() if part.conservation else ():
                    self.engine.runtime.say(problem)
                bar.update(len(part))
                yield part

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
        if not isinstance(composite, str):
            own = any(composite is known for known in self._presets.values())
            return composite if own else preset(composite, biases=self.biases)
        low, high = input_range or (None, None)
        limits = "" if low is None or high is None else f"{low.flatten().tolist()} {high.flatten().tolist()}"
        key = (composite, limits)
        if key not in self._presets:
            self._presets[key] = preset(composite, low=low, high=high, biases=self.biases)
        return self._presets[key]

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


def _checked_batch_size(batch_size: int | None, samples: int) -> int:
    if batch_size is None:
        return _BATCH_SIZE_OF_ONE_SAMPLE if samples == 1 else _BATCH_SIZE
    return check_integer("batch_size", batch_size, low=1, error=ConditionError)


def _threshold(diagnose: bool | float) -> float | None:
    """Return the share from which what no rule explains is worth a warning; None without a relevance balance."""
    if isinstance(diagnose, bool):
        return _UNEXPLAINED_SHARE if diagnose else None
    if not isinstance(diagnose, (int, float)) or not diagnose >= 0:
        raise ConditionError(f"diagnose is True, False, or a share of at least 0; got {diagnose!r}")
    return float(diagnose)


def _layer_names(names: Any) -> tuple[str, ...]:
    layers = () if names is None else (names,) if isinstance(names, str) else tuple(names)
    wrong = [name for name in layers if not isinstance(name, str)]
    if wrong:
        raise ConditionError(f"record_layer is names of layers; got {wrong[0]!r}")
    return layers


def _device(name: torch.device | str | None) -> torch.device | None:
    if name is None:
        return None
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"on_device={name!r} cannot be used: {str(error).splitlines()[0]}") from error


def check_data(inputs: Inputs) -> int:
    """Check the values of model inputs and return the number of samples."""
    listed = inputs.tree if isinstance(inputs.tree, list) and inputs.calling == "arguments" else ()
    if len(listed) > 1 and all(isinstance(value, torch.Tensor) for value in listed):
        raise InputError(
            f"a list of {len(listed)} tensors: torch.stack them to a batch, or give a tuple of several inputs. A "
            f"model that takes such a list: CondAttribution(model, inputs='samples') if it has one tensor for each "
            f"sample, inputs='single' if each tensor is a batch"
        )
    tensors = [value for _, value in inputs.named()]
    floats = [value for value in tensors if value.is_floating_point()]
    if not floats and not inputs.starts_with_ids:
        raise InputError(f"data has to be floating point to carry relevance; got {tensors[0].dtype}: use data.float()")
    for value in floats:
        if value.ndim < 2:
            raise InputError(f"data needs a batch axis in front: (batch, ...); got shape {tuple(value.shape)}")
        if value.numel() == 0:
            raise InputError(f"data is empty: its shape is {tuple(value.shape)}")
        # Only the first input has to be finite: another may be a mask of minus infinities.
        first = value is floats[0] and not inputs.starts_with_ids
        bad = count_not_finite(value) if first else int(value.isnan().sum())
        if bad:
            raise InputError(f"data has {bad} values that are NaN or infinite (of {value.numel()})")
    return inputs.samples


def _check_start(rows: Rows, options: CallOptions) -> None:
    """Raise a `ConditionError` unless every row has exactly one start."""
    for condition in rows.conditions:
        if target_of(condition.targets) is not None and options.init_rel is not None:
            raise ConditionError(f"{condition!r} and init_rel are two starts; leave one of them out")
        if options.start_layer is not None and condition.targets is not None:
            raise ConditionError(
                f"start_layer={options.start_layer!r} and 'y' in {condition!r} are two starts; leave one of them out"
            )
        if options.start_layer is None and condition.targets is None and options.init_rel is None:
            raise ConditionError(
                f"{condition!r} has no start: add 'y' (ids of the model output), or give start_layer or init_rel"
            )
