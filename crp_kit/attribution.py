"""Conditional attribution: condition sets in, heatmaps and recorded relevance out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from tqdm import tqdm
from zennit.core import Composite

from .concepts import ChannelConcept, Concept
from .conditions import OUTPUT, Chunk, ConditionSet, Pairing, chunk_rows, parse_conditions, resolve_pairing
from .engine import Engine, Passed, Run
from .errors import ConceptAxisError, ConditionError, InputError
from .graph.flow import channel_axes
from .graph.nodes import Graph, Ref
from .graph.record import OutputSelector
from .rules.presets import preset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Mask = Callable[..., torch.Tensor]
InitialRelevance = float | torch.Tensor | Callable[[torch.Tensor], torch.Tensor] | None
_ROWS_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Attribution:
    """The result of a conditional attribution. Rows come in the order in which the conditions were given.

    Parameters
    ----------
    heatmap : torch.Tensor
        (row, height, width), input relevance summed over the input's channels.
    input_relevance : torch.Tensor
        (row, *input shape).
    relevances : dict
        Layer name to (row, *shape), the relevance that arrived at the layer's output, before the layer's own mask.
    activations : dict
        Layer name to (row, *shape), the layer's forward value.
    prediction : torch.Tensor
        (row, class), the model's output for the row's sample.
    conditions : tuple of ConditionSet
        By row.
    samples : tuple of int
        Index into the data, by row.
    gradient_nodes : tuple of str
        Nodes that handed relevance on as plain gradient, because no rule is known for their operation.
    """

    heatmap: torch.Tensor
    input_relevance: torch.Tensor
    relevances: Mapping[str, torch.Tensor]
    activations: Mapping[str, torch.Tensor]
    prediction: torch.Tensor
    conditions: tuple[ConditionSet, ...]
    samples: tuple[int, ...]
    gradient_nodes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.conditions)

    def __iter__(self) -> Iterator[Any]:
        """Unpack as ``heatmap, activations, relevances, prediction``, the order that zennit-crp has."""
        return iter((self.heatmap, self.activations, self.relevances, self.prediction))

    def titles(self) -> list[str]:
        """Return a short text for each row: its condition set, and its sample where there are several."""
        several = len(set(self.samples)) > 1
        texts = (_condition_text(one) for one in self.conditions)
        return [f"sample {i}: {text}" if several else text for i, text in zip(self.samples, texts, strict=True)]

    def plot(self, **options: Any) -> Figure:
        """Return a matplotlib Figure of the heatmaps; options as in `crp_kit.plot.heatmaps`."""
        from . import plot

        return plot.heatmaps(self.heatmap, **{"titles": self.titles(), **options})

    def __repr__(self) -> str:
        layers = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.relevances.items())
        return (
            f"Attribution of {len(self)} rows: heatmap {tuple(self.heatmap.shape)}, prediction "
            f"{tuple(self.prediction.shape)}" + (f", relevance at {layers}" if layers else "")
        )

    def _repr_png_(self) -> bytes:
        """Show the heatmaps in a notebook."""
        from . import plot

        return plot.to_png(self.plot())


def _condition_text(condition: ConditionSet) -> str:
    parts = [f"{name}: {', '.join(map(str, ids)) or 'none'}" for name, ids in condition.layers]
    if condition.targets is not None:
        parts.append(f"y: {', '.join(map(str, condition.targets))}")
    return "\n".join(parts) or "all"


@dataclass(frozen=True)
class _Request:
    """Everything that one call asks for."""

    conditions: tuple[ConditionSet, ...]
    composite: Composite | None
    record_layer: tuple[str, ...]
    mask_map: Mask | Mapping[str, Mask] | None
    start_layer: str | None
    init_rel: InitialRelevance
    on_device: torch.device | str | None
    exclude_parallel: bool
    pairing: Literal["zip", "product"]
    rows: int


class CondAttribution:
    """Conditional attribution of a model (Achtibat et al., Nature Machine Intelligence 5, 2023).

    Parameters
    ----------
    model : torch.nn.Module
        It is never changed: it runs as a copy that shares its tensors, in evaluation mode.
    output : str, int or callable, optional
        Which part of the model's output is attributed, if that is not one tensor: a key, an index, or a function.

    Examples
    --------
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> image, label = ShapesDataset(1)[0]
    >>> attribution = CondAttribution(demo_resnet())
    >>> attribution(demo_preprocess(image)[None], [{"layer3.1.conv2": [3], "y": [label]}], "epsilon_plus_flat").heatmap.shape
    torch.Size([1, 64, 64])
    """

    def __init__(self, model: torch.nn.Module, output: OutputSelector = None) -> None:
        if not isinstance(model, torch.nn.Module):
            raise InputError(f"model is a torch.nn.Module; got {type(model).__name__}")
        self.model = model
        self._engine = Engine(model, output)

    def __call__(
        self,
        data: Any,
        conditions: Any,
        composite: Composite | str | None = None,
        *,
        record_layer: Sequence[str] = (),
        mask_map: Mask | Mapping[str, Mask] | None = None,
        start_layer: str | None = None,
        init_rel: InitialRelevance = None,
        on_device: torch.device | str | None = None,
        exclude_parallel: bool = True,
        pairing: Pairing = "auto",
        batch_size: int | None = None,
        verbose: bool = False,
    ) -> Attribution:
        """Return the attribution of all rows.

        Parameters
        ----------
        data : torch.Tensor
            (batch, channel, height, width) for images; whatever the model takes. A dictionary or tuple gives keyword or
            positional inputs.
        conditions : dict or list of dict
            Condition sets, such as ``[{"layer4.1.conv2": [23], "y": [207]}]``: node name to the concept ids that
            relevance may pass; ``"y"`` is the model output. An empty list of ids lets nothing pass.
        composite : zennit Composite or str, optional
            Rules; a preset name such as ``"epsilon_plus_flat"``; ``None`` for plain gradients.
        record_layer : sequence of str, optional
            Nodes whose relevance and activation are returned.
        mask_map : callable or dict, optional
            A mask function ``mask(concept_ids, shape, *, layer_name) -> factor``, such as ``NeuronConcept().mask``, or a
            dictionary of them by layer. By default concepts are channels, along the axis that the graph knows.
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
            Rows that are computed at once; it changes memory and time, not results beyond rounding.
        verbose : bool, optional
            Show a progress bar.

        Returns
        -------
        Attribution

        Raises
        ------
        ConditionError
            If a condition set is empty of meaning: unknown layer, id out of range, no start, unequal lengths.
        InputError
            If the data is not floating point, is empty, or has NaN in it.
        """
        parts = list(
            self.generate(
                data,
                conditions,
                composite,
                record_layer=record_layer,
                mask_map=mask_map,
                start_layer=start_layer,
                init_rel=init_rel,
                on_device=on_device,
                exclude_parallel=exclude_parallel,
                pairing=pairing,
                batch_size=batch_size or _ROWS_AT_ONCE,
                verbose=verbose,
            )
        )
        return parts[0] if len(parts) == 1 else _joined(parts)

    def generate(
        self,
        data: Any,
        conditions: Any,
        composite: Composite | str | None = None,
        *,
        record_layer: Sequence[str] = (),
        mask_map: Mask | Mapping[str, Mask] | None = None,
        start_layer: str | None = None,
        init_rel: InitialRelevance = None,
        on_device: torch.device | str | None = None,
        exclude_parallel: bool = True,
        pairing: Pairing = "auto",
        batch_size: int = _ROWS_AT_ONCE,
        verbose: bool = False,
    ) -> Iterator[Attribution]:
        """Return an iterator over slices of the rows, at most `batch_size` each; parameters as in a call.

        What is wrong with the arguments is said at once, not at the first slice. Nothing is left behind if the iterator
        is abandoned.
        """
        parsed = parse_conditions(conditions)
        samples = _check_data(data)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConditionError(f"batch_size is a whole number of at least 1; got {batch_size!r}")
        request = _Request(
            conditions=parsed,
            composite=preset(composite),
            record_layer=(record_layer,) if isinstance(record_layer, str) else tuple(record_layer),
            mask_map=mask_map,
            start_layer=start_layer,
            init_rel=init_rel,
            on_device=on_device,
            exclude_parallel=exclude_parallel,
            pairing=resolve_pairing(pairing, samples, len(parsed)),
            rows=samples if resolve_pairing(pairing, samples, len(parsed)) == "zip" else samples * len(parsed),
        )
        _check_start(request)
        chunks = list(chunk_rows(request.pairing, samples, len(parsed), batch_size))
        return self._slices(data, request, chunks, verbose)

    def _slices(self, data: Any, request: _Request, chunks: list[Chunk], verbose: bool) -> Iterator[Attribution]:
        run, ran = None, None
        total = request.rows
        with tqdm(total=total, unit="map", disable=not verbose) as bar:
            for chunk in chunks:
                if ran != chunk.samples:
                    run, ran = self._engine.run(_part(data, chunk.samples), request.composite), chunk.samples
                assert run is not None
                slice_ = _Slice(run, request, chunk).attribution()
                bar.update(len(slice_))
                yield slice_

    def graph(self, sample: Any, composite: Composite | str | None = None) -> Graph:
        """Return the recorded graph for a sample, with all names that conditions can use."""
        _check_data(sample)
        return self._engine.run(sample, preset(composite)).graph

    def channel_axis(self, sample: Any, layer: str) -> int | None:
        """Return the axis along which a node keeps its channels, the batch axis counted, or None if it is unknown."""
        graph = self.graph(sample)
        return channel_axes(graph)[graph.find(layer)]


def _check_data(data: Any) -> int:
    """Check model inputs and return the number of samples."""
    values = list(data.values()) if isinstance(data, Mapping) else list(data) if isinstance(data, (tuple, list)) else [data]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if not tensors:
        raise InputError(f"data is a tensor (batch, channel, height, width); got {type(data).__name__}")
    floats = [value for value in tensors if value.is_floating_point()]
    if not floats:
        raise InputError(f"data has to be floating point to carry relevance; got {tensors[0].dtype}: use data.float()")
    for value in floats:
        if value.ndim < 2:
            raise InputError(f"data needs a batch axis in front: (batch, ...); got shape {tuple(value.shape)}")
        if value.numel() == 0:
            raise InputError(f"data is empty: its shape is {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InputError(f"data has {bad} values that are NaN or infinite (of {value.numel()})")
    return int(tensors[0].shape[0])


def _check_start(request: _Request) -> None:
    """Make sure that every row has somewhere to start."""
    for condition in request.conditions:
        if request.start_layer is not None and condition.targets is not None:
            raise ConditionError(
                f"start_layer={request.start_layer!r} and 'y' in {condition!r} are two starts; leave one of them out"
            )
        if request.start_layer is None and condition.targets is None and request.init_rel is None:
            raise ConditionError(
                f"{condition!r} has no start: add 'y' (ids of the model output), or give start_layer or init_rel"
            )


def _part(data: Any, samples: slice) -> Any:
    """Return the samples of a slice from every input."""

    def cut(value: Any) -> Any:
        return value[samples] if isinstance(value, torch.Tensor) and value.ndim else value

    if isinstance(data, Mapping):
        return {name: cut(value) for name, value in data.items()}
    return tuple(map(cut, data)) if isinstance(data, (tuple, list)) else cut(data)


class _Slice:
    """One slice of the rows: all of its samples under all of its condition sets, or one by one (zip)."""

    def __init__(self, run: Run, request: _Request, chunk: Chunk) -> None:
        self.run, self.request, self.chunk = run, request, chunk
        self.graph = run.graph
        self.axes = channel_axes(run.graph)
        self.sets = request.conditions[chunk.conditions]
        self.zip = request.pairing == "zip"
        self.samples = range(*chunk.samples.indices(chunk.samples.stop))
        self.start = self.graph.find(request.start_layer) if request.start_layer else self.graph.output
        self.recorded = {name: self.graph.find(name) for name in request.record_layer}

    def attribution(self) -> Attribution:
        """Return the result of this slice."""
        passes = [self._pass(group) for group in self._groups()]
        inputs = [ref for ref in passes[0][1].inputs]
        main = self._ordered([(group, passed.inputs[inputs[0]]) for group, passed in passes])
        relevances = {
            name: self._ordered([(group, passed.recorded[ref]) for group, passed in passes])
            for name, ref in self.recorded.items()
        }
        recording = self.run.recording
        return Attribution(
            heatmap=main.sum(1) if main.ndim > 2 else main,
            input_relevance=main,
            relevances=relevances,
            activations={name: self._by_row(recording.value(ref), ref) for name, ref in self.recorded.items()},
            prediction=self._by_row(recording.value(self.graph.output), self.graph.output),
            conditions=tuple(self.sets) if self.zip else tuple(self.sets) * len(self.samples),
            samples=tuple(self.samples) if self.zip else tuple(s for s in self.samples for _ in self.sets),
            gradient_nodes=tuple(sorted({name for _, passed in passes for name in passed.unknown})),
        )

    # ------------------------------------------------------------------ rows

    def _groups(self) -> list[list[int]]:
        """Indices of the condition sets that name the same layers, and so walk together."""
        groups: dict[frozenset[Ref], list[int]] = {}
        for place, condition in enumerate(self.sets):
            key = frozenset(self.graph.find(name) for name in condition.layer_names)
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def _ordered(self, parts: list[tuple[list[int], torch.Tensor]]) -> torch.Tensor:
        """Put the relevance of all groups, (set, batch, ...) or (1, batch, ...) for zip, in the order of the rows."""
        if self.zip:
            whole = parts[0][1][0].clone()
            for group, part in parts[1:]:
                whole[group] = self._per_sample(part[0])[group]
            return self._placed(whole)
        first = parts[0][1]
        split = [(group, self._per_sample_rows(part)) for group, part in parts]
        shape = (len(self.sets), *split[0][1].shape[1:])
        whole = first.new_zeros(shape)
        for group, part in split:
            whole[group] = part
        return self._placed(whole.transpose(0, 1).flatten(0, 1))

    def _per_sample(self, value: torch.Tensor) -> torch.Tensor:
        """Return a value with the batch as its first axis, folded windows or heads behind it."""
        batch = self.graph.batch
        return value if value.shape[0] == batch else value.reshape(batch, -1, *value.shape[1:])

    def _per_sample_rows(self, value: torch.Tensor) -> torch.Tensor:
        batch = self.graph.batch
        return value if value.shape[1] == batch else value.reshape(value.shape[0], batch, -1, *value.shape[2:])

    def _by_row(self, value: torch.Tensor, ref: Ref) -> torch.Tensor:
        self.graph.sample_shape(ref)
        value = self._per_sample(value)
        return self._placed(value if self.zip else value.repeat_interleave(len(self.sets), 0))

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self.request.on_device) if self.request.on_device is not None else value

    # ------------------------------------------------------------------ one pass

    def _pass(self, group: list[int]) -> tuple[list[int], Passed]:
        """Run the condition sets of one group."""
        seeds, rows = self._zip_seeds(group) if self.zip else self._product_seeds(group)
        passed = self.run.passed(
            self.start,
            seeds,
            rows=rows,
            masks=self._masks(group),
            record=list(self.recorded.values()),
            exclude_parallel=self.request.exclude_parallel,
        )
        return group, passed

    def _values(self) -> torch.Tensor:
        """Start values, (batch, *shape)."""
        value = self.run.recording.value(self.start)
        return value if value.dtype in (torch.float32, torch.float64) else value.float()

    def _product_seeds(self, group: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Distinct start values (seed, batch, *shape), and which of them each set starts from."""
        value = self._values()
        initial, per_row = self._initial(value)
        keys = [(self.sets[place].targets, place if per_row else 0) for place in group]
        distinct = list(dict.fromkeys(keys))
        seeds = []
        for targets, place in distinct:
            base = initial[place] if per_row else initial
            seeds.append(base if targets is None else base * self._target_mask(targets, value))
        return torch.stack(seeds), torch.tensor([distinct.index(key) for key in keys], device=value.device)

    def _zip_seeds(self, group: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Start values (1, batch, *shape), zero for the samples of other groups."""
        value = self._values()
        initial, _ = self._initial(value)
        factors = []
        for place, condition in enumerate(self.sets):
            if place not in group:
                factors.append(torch.zeros_like(value[0]))
            elif condition.targets is None:
                factors.append(torch.ones_like(value[0]))
            else:
                factors.append(self._target_mask(condition.targets, value).expand_as(value[0]))
        return (initial * torch.stack(factors))[None], torch.zeros(1, dtype=torch.long, device=value.device)

    def _target_mask(self, targets: tuple[Any, ...], value: torch.Tensor) -> torch.Tensor:
        """Factor that keeps the given ids of the model output, without a batch axis."""
        shape = torch.Size(value.shape[1:]) or torch.Size([1])
        axis = self.axes.get(self.graph.output) or 1
        concept = ChannelConcept(axis=min(axis, len(shape)))
        mask = concept.mask(targets, shape, layer_name=OUTPUT).to(value)
        return mask if value.ndim > 1 else mask.reshape(())

    def _initial(self, value: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Return the start relevance, (batch, *shape), or (set, batch, *shape) if it differs by row."""
        given = self.request.init_rel
        if given is None:
            return value, False
        if callable(given):
            made = given(value)
            if not isinstance(made, torch.Tensor):
                made = torch.as_tensor(made)
            return self._broadcast(made, value), False
        if not isinstance(given, torch.Tensor):
            if isinstance(given, bool) or not isinstance(given, (int, float)):
                raise ConditionError(f"init_rel is a number, a tensor or a function; got {type(given).__name__}")
            return torch.full_like(value, float(given)), False
        if given.ndim == value.ndim and given.shape[0] == self.request.rows and self.request.rows > 1:
            return self._own_rows(given, value)
        if given.ndim == value.ndim and given.shape[0] not in (1, value.shape[0]):
            return self._broadcast(given[self.chunk.samples], value), False
        return self._broadcast(given, value), False

    def _own_rows(self, given: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Cut a start relevance with one entry per row."""
        if self.zip:
            return self._broadcast(given[self.chunk.samples], value), False
        sets = len(self.request.conditions)
        mine = given.view(-1, sets, *given.shape[1:])[self.chunk.samples, self.chunk.conditions]
        mine = mine.transpose(0, 1).to(value)
        return mine.expand(len(self.sets), *value.shape), True

    @staticmethod
    def _broadcast(given: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        try:
            return given.to(value).expand_as(value)
        except RuntimeError as error:
            raise ConditionError(
                f"init_rel of shape {tuple(given.shape)} does not fit the start, whose shape is {tuple(value.shape)}"
            ) from error

    # ------------------------------------------------------------------ masks

    def _masks(self, group: list[int]) -> dict[Ref, torch.Tensor]:
        """For each conditioned output of a group, the factor (set, batch or 1, *shape)."""
        masks: dict[Ref, torch.Tensor] = {}
        for name in self.sets[group[0]].layer_names:
            ref = self.graph.find(name)
            factors = []
            for place in range(len(self.sets)) if self.zip else group:
                ids = self._ids(place, ref) if place in group else None
                factors.append(self._factor(name, ref, ids))
            stacked = torch.stack(torch.broadcast_tensors(*factors))
            stacked = stacked[None] if self.zip else stacked[:, None]
            masks[ref] = self._folded(stacked, ref) * masks.get(ref, 1)
        return masks

    def _ids(self, place: int, ref: Ref) -> tuple[Any, ...]:
        return next(ids for name, ids in self.sets[place].layers if self.graph.find(name) == ref)

    def _factor(self, name: str, ref: Ref, ids: tuple[Any, ...] | None) -> torch.Tensor:
        """Return the mask of one condition set at one node, without a batch axis."""
        shape = self.graph.sample_shape(ref)
        like = self.run.recording.value(ref)
        dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
        if ids is None:
            return torch.zeros([1] * len(shape), dtype=dtype, device=like.device)
        factor = self._mask_function(name, ref)(list(ids), shape, layer_name=name)
        try:
            return factor.to(dtype=dtype, device=like.device).expand(shape)
        except (RuntimeError, AttributeError) as error:
            raise ConditionError(
                f"the mask of {name!r} has to be a tensor that broadcasts to {tuple(shape)}: {error}"
            ) from error

    def _mask_function(self, name: str, ref: Ref) -> Mask:
        given = self.request.mask_map
        if isinstance(given, Mapping):
            given = given.get(name)
        owner = getattr(given, "__self__", None)
        if given is None or (isinstance(owner, ChannelConcept) and type(owner) is ChannelConcept and owner.axis is None):
            return self._channels(name, ref).mask
        if isinstance(given, Concept):
            return given.mask
        return given

    def _channels(self, name: str, ref: Ref) -> ChannelConcept:
        axis, shape = self.axes.get(ref), self.graph.shape(ref)
        folded = len(self.graph.sample_shape(ref)) == len(shape)
        if axis is None:
            raise ConceptAxisError(
                f"the graph cannot tell which axis of {name!r} (shape {tuple(shape)}) enumerates its channels; "
                f"say it with mask_map={{{name!r}: ChannelConcept(axis=...).mask}}"
            )
        return ChannelConcept(axis=axis + 1 if folded else axis)

    def _folded(self, factor: torch.Tensor, ref: Ref) -> torch.Tensor:
        """Fold the windows or heads of a factor back into the batch axis, as the node has them."""
        if len(self.graph.sample_shape(ref)) != len(self.graph.shape(ref)):
            return factor
        return factor.expand(-1, self.graph.batch, *factor.shape[2:]).flatten(1, 2)


def _joined(parts: list[Attribution]) -> Attribution:
    """Put slices together."""

    def cat(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(values)

    return Attribution(
        heatmap=cat([part.heatmap for part in parts]),
        input_relevance=cat([part.input_relevance for part in parts]),
        relevances={name: cat([part.relevances[name] for part in parts]) for name in parts[0].relevances},
        activations={name: cat([part.activations[name] for part in parts]) for name in parts[0].activations},
        prediction=cat([part.prediction for part in parts]),
        conditions=tuple(one for part in parts for one in part.conditions),
        samples=tuple(one for part in parts for one in part.samples),
        gradient_nodes=tuple(sorted({name for part in parts for name in part.gradient_nodes})),
    )
