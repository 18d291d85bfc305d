"""What is measured: one `Case` a row of the table. Pure data, for both environments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

LAYERS = {
    "small_cnn": "features.8",
    "resnet18": "layer4.1.conv2",
    "resnet50": "layer4.2.conv2",
    "vgg16_bn": "features.40",
    "densenet121": "features.transition3.conv",
}
"""Where concepts are conditioned: a convolution near the output, with a channel for each heatmap."""
TRACED = ("resnet18", "resnet50", "densenet121", "densenet201")
SHALLOW = "layer1.0.conv1"
ATTENTION = {"vit_b_16": "encoder.layers.encoder_layer_8.mlp", "swin_t": "features.5.3.mlp"}
"""Transformers, which run under AttnLRP, and where their concepts are conditioned."""
TARGET = 7
"""The class that relevance starts from; every model has at least 10."""
CONCEPT, WIDTH = 0, (4, 2)
"""Root of the concept graph, and how many children are kept at each level."""
ROWS_AT_ONCE = 16
"""The largest batch of zennit-crp, zennit and the floor."""
BATCH, K, K_CLASS = 32, 40, 8
"""Images a batch, and lengths of rankings, of an atlas."""
PARTS = {
    "heatmaps": ("heatmaps",),
    "saliency": ("saliency",),
    "atlas": ("atlas",),
    "graph": ("graph",),
    "tracing": ("trace", "plan"),
    "query": ("open", "top", "class_top"),
    "growth": ("heatmaps", "atlas"),
}
"""The parts that --only names, and the kinds of cases in each."""
GROWTH = {"conditions": ("count", 1), "images": ("count", 1), "layers": ("layers", 1), "classes": ("classes", 0)}
"""With what time may grow: the number of a case, and the power of it that the time is expected to follow."""
SIDES = {
    "heatmaps": ("ours", "peer", "gradient", "floor"),
    "saliency": ("ours", "saliency", "gradient", "captum", "lxt", "lxt_explicit"),
    "atlas": ("ours", "peer", "floor"),
    "graph": ("ours", "peer"),
    "trace": ("ours", "peer", "floor"),
    "plan": ("ours", "floor"),
    "open": ("ours",),
    "top": ("ours",),
    "class_top": ("ours",),
}
"""Who does each kind of work. The floor of an atlas is forward + gradient, that of a traced graph one forward."""
FOR_ATTENTION, FOR_CONVOLUTIONS = ("lxt", "lxt_explicit"), ("gradient", "captum")
"""Sides that have LRP only for transformers, and only for networks without attention."""
PEERS = ("peer", "captum", *FOR_ATTENTION)
"""Sides that need an environment of their own."""


@dataclass(frozen=True)
class Case:
    """One piece of work.

    Parameters
    ----------
    kind : str
        A key of `SIDES`.
    model : str
        A key of `LAYERS`, or another classifier of torchvision.
    count : int
        Heatmaps, images of an atlas, or concepts of the file that is asked.
    size : int
        Height and width of an image.
    classes : int
    layer : str
        Where heatmaps are conditioned, or the root of the concept graph; none for a heatmap of the whole model.
    composite : str
        zennit's name of the rules, or "attnlrp".
    new_composite : bool
        Whether each call gets a composite of its own, as in a notebook cell that makes one.
    layers : int
        Convolutions that an atlas has, 0 for all.
    left_out : tuple of str
        Sides that do not take part.
    memory : bool
        Whether peak memory is measured as well.
    growth : str
        A key of `GROWTH`, if this is a point of how crp-kit's time grows.
    """

    kind: str
    model: str
    count: int = 1
    size: int = 224
    classes: int = 1000
    layer: str = ""
    composite: str = "epsilon_plus_flat"
    new_composite: bool = False
    layers: int = 0
    left_out: tuple[str, ...] = ()
    memory: bool = False
    growth: str = ""

    @property
    def sides(self) -> tuple[str, ...]:
        sides = ("ours",) if self.growth else SIDES[self.kind]
        return tuple(side for side in sides if side not in self.left_out)

    @property
    def part(self) -> str:
        return "growth" if self.growth else next(part for part, kinds in PARTS.items() if self.kind in kinds)

    @property
    def name(self) -> str:
        """What the row of the table is called."""
        if self.growth:
            return f"{self.model}, {self.growth}: {getattr(self, GROWTH[self.growth][0])}"
        match self.kind:
            case "heatmaps":
                return f"{self._heatmaps}{', a composite for each call' if self.new_composite else ''}"
            case "saliency":
                return f"{self._heatmaps}, beside as many saliency maps"
            case "atlas":
                layers = f"{self.layers} layers" if self.layers else "all convolutions"
                return f"{self.count} images, {self.model}, {layers}, {self.classes} classes"
            case "graph":
                return f"concept graph, {self.model} {self.layer}, width {list(WIDTH)}"
            case "trace":
                return f"{self.model}, traced graph"
            case "plan":
                return f"{self.model}, recorded, canonized and planned"
        words = {"open": "open it", "top": f"the {K} references of a concept", "class_top": "the same for one class"}
        return f"file of {self.count} concepts, {self.classes} classes: {words[self.kind]}"

    @property
    def _heatmaps(self) -> str:
        rules = "" if self.composite == "epsilon_plus_flat" else f", {self.composite}"
        where = f" {self.layer}" if self.layer else ""
        return f"{self.count} heatmap{'s' if self.count > 1 else ''}, {self.model}{where}{rules}"


def all_cases() -> list[Case]:
    """Return everything, for hours."""
    return [
        *_heatmaps("vgg16_bn"),
        *_heatmaps("resnet18"),
        Case("heatmaps", "resnet18", 64, layer=SHALLOW),
        Case("heatmaps", "resnet18", 64, layer=LAYERS["resnet18"], composite="epsilon_gamma_box"),
        Case("heatmaps", "resnet18", 64, layer=LAYERS["resnet18"], composite="epsilon_alpha2_beta1_flat"),
        *_heatmaps("resnet50"),
        *_heatmaps("densenet121"),
        Case("heatmaps", "resnet18", 10, layer=LAYERS["resnet18"], new_composite=True, left_out=("peer",)),
        *_beside_saliency(),
        *(Case("atlas", "small_cnn", 512, size=64, classes=classes) for classes in (10, 1000)),
        *(Case("atlas", "resnet18", 128, classes=classes) for classes in (10, 1000)),
        *(Case("atlas", "vgg16_bn", 64, classes=classes) for classes in (10, 1000)),
        Case("graph", "resnet18", layer=LAYERS["resnet18"]),
        *(Case(kind, model) for model in TRACED for kind in PARTS["tracing"]),
        *_query(4096, 1000),
        *_growing(
            Case("atlas", "resnet18", 128, size=64, classes=10, layers=5),
            conditions=(1, 4, 16, 64, 256),
            images=(32, 64, 128, 256),
            layers=(1, 5, 10, 20),
            classes=(10, 100, 1000),
        ),
    ]


def quick_cases() -> list[Case]:
    """Return a small set, for minutes."""
    return [
        *_heatmaps("small_cnn", counts=(1, 10, 64), size=64),
        *_heatmaps("resnet18", counts=(1, 10)),
        Case("saliency", "small_cnn", size=64, left_out=FOR_ATTENTION),
        *(Case("atlas", "small_cnn", count, size=64, classes=10) for count in (64, 128)),
        Case("atlas", "resnet18", 32, classes=10),
        Case("graph", "small_cnn", size=64, layer=LAYERS["small_cnn"]),
        Case("graph", "resnet18", layer=LAYERS["resnet18"]),
        *(Case(kind, "small_cnn", size=64) for kind in PARTS["tracing"]),
        *(Case(kind, "resnet18") for kind in PARTS["tracing"]),
        *_query(256, 100),
        *_growing(
            Case("atlas", "small_cnn", 64, size=64, classes=10, layers=3),
            conditions=(1, 64),
            images=(32, 128),
            layers=(1, 3),
            classes=(10, 100),
        ),
    ]


def _heatmaps(model: str, *, counts: tuple[int, ...] = (1, 10, 64, 512), size: int = 224) -> Iterable[Case]:
    """Yield cases of so many heatmaps, those of 512 without who would take hours."""
    for count in counts:
        yield Case(
            "heatmaps",
            model,
            count,
            size=size,
            layer=LAYERS[model],
            left_out=("peer", "gradient") if count == 512 else (),
            memory=count == 10 and model != "small_cnn",
        )


def _beside_saliency() -> Iterable[Case]:
    """Yield heatmaps in units of saliency maps: one of the whole model, many with conditions for transformers."""
    for model in ("vgg16", "resnet50"):
        yield Case("saliency", model, left_out=FOR_ATTENTION)
    for model, layer in ATTENTION.items():
        others = FOR_CONVOLUTIONS if model == "vit_b_16" else FOR_CONVOLUTIONS + FOR_ATTENTION
        yield Case("saliency", model, composite="attnlrp", left_out=others)
        for count in (10, 64):
            without = FOR_CONVOLUTIONS + FOR_ATTENTION
            yield Case("saliency", model, count, layer=layer, composite="attnlrp", left_out=without)


def _growing(atlas: Case, **numbers: tuple[int, ...]) -> Iterable[Case]:
    """Yield an atlas, and heatmaps of the same model, again and again, each with another value of one number."""
    heatmaps = Case("heatmaps", atlas.model, size=atlas.size, layer=LAYERS[atlas.model])
    for what, values in numbers.items():
        field, _ = GROWTH[what]
        for number in values:
            yield replace(heatmaps if what == "conditions" else atlas, growth=what, **{field: number})


def _query(concepts: int, classes: int) -> Iterable[Case]:
    for kind in PARTS["query"]:
        yield Case(kind, "synthetic", concepts, classes=classes)


def chosen(cases: Iterable[Case], *, only: Iterable[str], models: Iterable[str], without: Iterable[str]) -> list[Case]:
    """Return the cases of some parts and models, without some sides. Files to ask belong to no model."""
    parts, names = set(only), set(models)
    return [
        replace(case, left_out=tuple(dict.fromkeys([*case.left_out, *without])))
        for case in cases
        if (not parts or case.part in parts) and (not names or case.part == "query" or case.model in names)
    ]
