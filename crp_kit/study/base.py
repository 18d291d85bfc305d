"""Base of a study: a model with its data, preprocessing, rules, concepts and class names; and the call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from PIL import Image

from ..attribution.call_signature import parameters_of
from ..attribution.cond_attribution import CondAttribution
from ..attribution.display import Display, compare_names
from ..attribution.result import Attribution, join
from ..attribution.subject import Subject, rules_name, rules_of
from ..class_names import checked_names, class_label
from ..concepts import Concept
from ..conditions import OutputSelector, Pairing
from ..data.class_map import positional_names
from ..data.preprocess import Normalise, Preprocess, load_views
from ..errors import InputError
from ..models import LoadedModel
from ..rules.presets import Biases, Composite
from .arguments import check_data, check_preprocess
from .concept_origin import check_concepts
from .stored_options import origin_of

if TYPE_CHECKING:
    from ..atlas import Origin
    from ..attribution.masks import Mask
    from ..attribution.start_relevance import InitialRelevance

__all__ = ["StudyBase"]

_Study = TypeVar("_Study", bound="StudyBase")


class StudyBase:
    """A model with its data, preprocessing, rules, concepts and class names; parameters as for `crp_kit.Study`."""

    def __init__(
        self,
        model: torch.nn.Module | CondAttribution | LoadedModel,
        data: Any = None,
        *,
        composite: Composite | str | None = "epsilon_plus_flat",
        preprocess: Preprocess | Normalise | None = None,
        concepts: Concept | Mapping[str, Concept] | None = None,
        classes: Sequence[str] | None = None,
        output: OutputSelector = None,
        class_axis: int | None = None,
        feature_axis: int | Literal["none"] | None = None,
        fixed: str | int | Iterable[str | int] = (),
        inputs: Literal["arguments", "single", "samples"] = "arguments",
        biases: Biases = "absorb",
        origin: Origin | None = None,
    ) -> None:
        check_data(data)
        check_preprocess(preprocess)
        if isinstance(model, LoadedModel):
            if origin is None and preprocess is None and output is None:
                said = {"composite": composite if isinstance(composite, str) else None, "biases": biases}
                axes = {"class_axis": class_axis, "feature_axis": feature_axis}
                origin = origin_of(model, data, {**said, **axes})
            preprocess = model.preprocess if preprocess is None else preprocess
            classes = model.classes if classes is None else classes
            output = model.output if output is None else output
            model = model.model
        settings: dict[str, Any] = {
            "output": output,
            "class_axis": class_axis,
            "feature_axis": feature_axis,
            "fixed": fixed,
            "inputs": inputs,
            "biases": biases,
        }
        if isinstance(model, CondAttribution):
            usual = signature(StudyBase).parameters
            double = [name for name, value in settings.items() if value != usual[name].default]
            if double:
                raise InputError(f"{', '.join(double)} is given beside a CondAttribution: make that with it")
            attribution = model
        else:
            attribution = CondAttribution(model, settings.pop("output"), **settings)
        check_concepts(concepts, attribution.model)
        names = positional_names(data) if classes is None else checked_names(classes)
        self.origin = origin
        self.subject = Subject(
            attribution,
            rules_of(attribution, composite, preprocess, data),
            rules_name(composite),
            data,
            preprocess,
            concepts,
            names,
            classes is None,
        )

    def __repr__(self) -> str:
        subject = self.subject
        parts = [type(subject.model).__name__, f"{len(subject.classes)} classes" if subject.classes else ""]
        if subject.dataset is not None:
            parts.append(f"{len(subject.dataset)} samples of {type(subject.dataset).__name__}")
        return f"Study of {', '.join(filter(None, [*parts, f'rules {subject.rules_name}']))}"

    @property
    def model(self) -> torch.nn.Module:
        """The model."""
        return self.subject.model

    @property
    def data(self) -> Any:
        """The dataset, or None."""
        return self.subject.dataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the model's classes; empty where none are known."""
        return self.subject.classes

    @property
    def attribution(self) -> CondAttribution:
        """The attribution that all analyses of this study use."""
        return self.subject.attribution

    def replace(self: _Study, *, composite: Composite | str | None) -> _Study:
        """Return the same study under other rules; recorded graphs and the model's copy are shared.

        Parameters
        ----------
        composite : zennit Composite, str or None
            Rules; a preset name such as ``"epsilon_plus_flat"``; ``None`` for plain gradients.

        Returns
        -------
        Study

        Raises
        ------
        CompositeError
            If there is no such composite.
        """
        other = copy(self)
        other.subject = self.subject.with_rules(composite)
        return other

    def class_name(self, number: int) -> str:
        """Return number and name of a class, ``"207 golden retriever"``; the number alone if no name is known.

        Parameters
        ----------
        number : int
            Number of the class, from 0.

        Returns
        -------
        str
        """
        return class_label(number, self.classes)

    def read(self, paths: Sequence[str | Path]) -> torch.Tensor:
        """Return image files as the model sees them, before normalisation: (image, channel, height, width).

        Parameters
        ----------
        paths : sequence of str or Path
            Files that Pillow opens, or arrays in ``.npy`` files.

        Raises
        ------
        InputError
            If a file cannot be read, or `preprocess` is no `crp_kit.Preprocess`.
        """
        preprocess = self.subject.preprocess
        if not isinstance(preprocess, Preprocess):
            raise InputError("files are opened by a crp_kit.Preprocess: make the study with one as preprocess")
        return load_views(paths, preprocess)

    def inputs(self, images: Any) -> Any:
        """Return model inputs of images, on the model's device.

        Parameters
        ----------
        images : torch.Tensor, PIL image, array, path, sequence of these, tuple or dict
            As the data gives them, (sample, channel, height, width) or one of them: see `Study`.

        Returns
        -------
        torch.Tensor, tuple or dict
            After `preprocess`: (sample, channel, height, width) for images.
        """
        return self.subject.inputs(images)

    def generate(
        self,
        images: Any,
        conditions: Any,
        *,
        record_layer: Sequence[str] = (),
        mask_map: Mask | Concept | Mapping[str, Mask | Concept] | None = None,
        start_layer: str | None = None,
        init_rel: InitialRelevance = None,
        on_device: torch.device | str | None = None,
        exclude_parallel: bool = True,
        pairing: Pairing = "auto",
        batch_size: int | None = None,
        verbose: bool = False,
        diagnose: bool | float = False,
    ) -> Iterator[Attribution]:
        """Return an iterator over slices of the rows, at most `batch_size` each.

        Parameters
        ----------
        images : torch.Tensor, PIL image, array, path, sequence of these, tuple or dict
            As the data gives them, (sample, channel, height, width) or one of them: see `Study`.
        conditions : dict or list of dict
            Condition sets, as for `CondAttribution`; classes of ``"y"`` may be given by name.
        record_layer : sequence of str, optional
            Nodes whose relevance and activation are returned.
        mask_map : callable, Concept or dict, optional
            Mask functions or concepts, for all layers or by layer; by default the study's concepts.
        start_layer : str, optional
            Start at this node's output instead of the model's.
        init_rel : float, torch.Tensor or callable, optional
            Relevance at the start: a number, values, or a function of the start's own values (the default).
        on_device : torch.device or str, optional
            Where the results are kept; by default where the data is.
        exclude_parallel : bool, optional
            Count only paths on which the conditioned nodes are a maximal chain, not shortcuts past them.
        pairing : {"auto", "zip", "product"}, optional
            ``"zip"``: row i is sample i under condition set i. ``"product"``: every sample under every set, sets
            fastest. ``"auto"``: zip when the lengths agree, else product.
        batch_size : int, optional
            Rows that share a forward: by default 16, or 64 if all belong to one sample.
        verbose : bool, optional
            Show a progress bar.
        diagnose : bool or float, optional
            Record a per-node relevance balance in ``Attribution.conservation``; a number is the share of the start
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
        """
        parts = self.attribution.generate(
            self.inputs(images),
            self.subject.conditions(conditions),
            self.subject.composite,
            record_layer=record_layer,
            mask_map=self.subject.concepts if mask_map is None else mask_map,
            start_layer=start_layer,
            init_rel=init_rel,
            on_device=on_device,
            exclude_parallel=exclude_parallel,
            pairing=pairing,
            batch_size=batch_size,
            verbose=verbose,
            diagnose=diagnose,
        )
        return map(self._displayed, parts)

    @parameters_of(generate)
    def __call__(self, *args: Any, **options: Any) -> Attribution:
        """Return the attribution of images under condition sets, with the study's rules and concepts.

        Returns
        -------
        Attribution
        """
        return join(list(self.generate(*args, **options)))

    def view(self, image: Any) -> Image.Image:
        """Return an image as the model sees it: resized and cropped as by `preprocess`, not normalised.

        Parameters
        ----------
        image : PIL image, path, torch.Tensor or array
            A photo, (height, width, channel) where it is an array; or an image as the data gives it, (channel, height,
            width), which stays as it is.

        Returns
        -------
        PIL.Image.Image

        Raises
        ------
        InputError
            If it is no image.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import demo_resnet
        >>> from crp_kit.data.preprocess import Preprocess
        >>> from PIL import Image
        >>> crp.Study(demo_resnet(), preprocess=Preprocess(72, 64)).view(Image.new("RGB", (640, 480))).size
        (64, 64)
        """
        return self._display.view(image)

    def _displayed(self, part: Attribution) -> Attribution:
        if not self.subject.classes_are_datas:
            compare_names(part.prediction, self.classes)
        return replace(part, display=self._display)

    @property
    def _display(self) -> Display:
        preprocess = self.subject.preprocess
        return Display(preprocess if isinstance(preprocess, Preprocess) else None, self.classes)

    def _example(self, image: Any) -> Any:
        if image is None and self.subject.dataset is None:
            raise InputError("this needs an image, or a dataset whose first one is taken: Study(model, data, …)")
        return self.inputs(self.subject.samples.first_image() if image is None else image)
