"""Models of torchvision, timm and Hugging Face with random, non-trivial parameters and a random input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision import models

from .architectures import published_segmentation
from .families import CALIBRATION_SAMPLES
from .randomise import randomise

Data = torch.Tensor | dict[str, torch.Tensor]


@dataclass(frozen=True)
class Entry:
    """How to make a model, and the shape of the one sample it is given.

    Parameters
    ----------
    make : callable
    shape : tuple of int
        Of a sample without its batch axis.
    argument : str or None
        Name of the argument that the sample is passed as, in a dictionary; None for a positional one.
    also : dict
        Further arguments of the dictionary, without gradients.
    output : str or None
        The part of the output that is attributed.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    argument: str | None = None
    also: Mapping[str, torch.Tensor] = field(default_factory=dict)
    output: str | None = None

    def data(self, samples: int, generator: torch.Generator) -> Data:
        """Random samples, drawn in float32."""
        x = torch.randn(samples, *self.shape, generator=generator)
        if self.argument is None:
            return x
        return {self.argument: x, **{name: one.expand(samples, *one.shape[1:]) for name, one in self.also.items()}}


def groups() -> dict[str, list[str]]:
    """Names of all entries by group."""
    return {"torchvision": torchvision_names(), "timm": list(TIMM), "huggingface": list(HUGGINGFACE)}


def entry(group: str, name: str) -> Entry:
    """The entry of a name in a group.

    Raises
    ------
    KeyError
        If the group has no such name.
    """
    if name not in groups()[group]:
        raise KeyError(f"{group} has no model {name}")
    if group == "torchvision":
        return _torchvision(name)
    return _timm(name) if group == "timm" else _huggingface(name)


def build(chosen: Entry, *, biases: bool = True, seed: int = 0) -> tuple[nn.Module, Data]:
    """Model of an entry in evaluation mode with random parameters, and one random sample, both in float64.

    Parameters
    ----------
    chosen : Entry
    biases : bool
        Whether anything adds a constant to the signal.
    seed : int
        Seed of all parameters and of the sample.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = chosen.make().float().requires_grad_(False).eval()
    randomise(model, chosen.data(CALIBRATION_SAMPLES, generator), biases=biases, generator=generator, gates=0.02)
    data = chosen.data(1, generator)
    model = model.double()
    if isinstance(data, torch.Tensor):
        return model, data.double()
    return model, {name: one.double() if one.is_floating_point() else one for name, one in data.items()}


# ---------------------------------------------------------------------- torchvision


def torchvision_names() -> list[str]:
    """Every classifier and every segmentation model of torchvision."""
    return [*models.list_models(module=models), *models.list_models(module=models.segmentation)]


def _torchvision(name: str) -> Entry:
    if name in models.list_models(module=models.segmentation):
        return Entry(partial(published_segmentation, name), (3, 64, 64), output="out")
    options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if options:
        options["aux_logits"] = False
    own = {"vit_h_14": 224, "inception_v3": 96}
    small = not name.startswith(("vit", "swin", "maxvit"))
    size = own.get(name, 64 if small else 256 if name.startswith("swin_v2") else 224)
    return Entry(partial(models.get_model, name, weights=None, **options), (3, size, size))


# ---------------------------------------------------------------------- timm

TIMM: dict[str, int | None] = dict.fromkeys(
    "resnet26d resnet50_gn seresnext26d_32x4d resnetv2_50 resnetv2_50x1_bit resnest14d ecaresnet26t "
    "res2net50_14w_8s hrnet_w18_small dla34 densenet121 rdnet_tiny efficientnet_b0 mobilenetv3_small_050 "
    "mobilenetv4_hybrid_medium regnetz_b16 eca_nfnet_l0 repvgg_a0 mobileone_s0 ghostnet_100 hardcorenas_a dpn68 "
    "xception41 inception_v4 convnextv2_atto convmixer_768_32 poolformer_s12 caformer_s18 edgenext_xx_small "
    "repvit_m0_9 inception_next_atto cspresnet50 mambaout_femto swiftformer_xs fasternet_t0 tresnet_m fastvit_t8 "
    "mobilevit_xxs pvt_v2_b0 davit_tiny".split(),
    96,
) | dict.fromkeys(
    "mixer_s32_224 resmlp_12_224 gmlp_ti16_224 vit_tiny_patch16_224 vit_relpos_small_patch16_224 "
    "deit_tiny_distilled_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224 cait_xxs24_224 "
    "xcit_nano_12_p16_224 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 maxvit_nano_rw_256 "
    "coatnet_pico_rw_224 coat_tiny levit_128s efficientformer_l1 focalnet_tiny_srf hiera_tiny_224 volo_d1_224 "
    "twins_svt_small tnt_s_patch16_224 visformer_tiny crossvit_tiny_240 sequencer2d_s nest_tiny halonet26t "
    "mvitv2_tiny".split()
)
"""Architectures of timm, one or two of each kind, and the side of their input in pixels; None: the one they have."""


TIMM_OPTIONS: dict[str, dict[str, Any]] = {"coat_tiny": {"global_pool": "avg"}}
"""How some are made; without its class tokens, the tokens' mean is what the logits of CoaT can depend on."""


def _timm(name: str) -> Entry:
    import timm

    size = TIMM[name]
    shape = timm.get_pretrained_cfg(name, allow_unregistered=False).input_size if size is None else (3, size, size)
    return Entry(partial(timm.create_model, name, pretrained=False, **TIMM_OPTIONS.get(name, {})), tuple(shape))


# ---------------------------------------------------------------------- Hugging Face

_WIDTH, _TOKENS = 32, 7
_TINY = {"hidden_size": _WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
HUGGINGFACE = {
    f"{model}-{attention}": (model, attention)
    for model, attentions in {
        "ViT": ("eager", "sdpa"),
        "ConvNeXt": ("",),
        "BERT": ("eager", "sdpa"),
        "GPT-2": ("eager", "sdpa"),
        "Llama": ("eager", "sdpa"),
    }.items()
    for attention in attentions
}
HUGGINGFACE = {name.rstrip("-"): value for name, value in HUGGINGFACE.items()}
"""Models of Hugging Face in tiny configurations, by model and implementation of attention."""


def _huggingface(name: str) -> Entry:
    model, attention = HUGGINGFACE[name]
    makers = {"ViT": _vit, "ConvNeXt": _convnext, "BERT": _bert, "GPT-2": _gpt2, "Llama": _llama}
    make = partial(makers[model], attention)
    if model in ("ViT", "ConvNeXt"):
        return Entry(make, (3, 32, 32), output="logits")
    mask = torch.ones(1, _TOKENS, dtype=torch.long)
    mask[:, -1] = int(model != "BERT")
    return Entry(make, (_TOKENS, _WIDTH), "inputs_embeds", {"attention_mask": mask}, output="logits")


def _vit(attention: str) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**_TINY, image_size=32, patch_size=8)
    return _made(ViTForImageClassification, config, attention)


def _convnext(attention: str) -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    return ConvNextForImageClassification(ConvNextConfig(hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 2, 1]))


def _bert(attention: str) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(**_TINY, vocab_size=50, num_labels=5)
    return _made(BertForSequenceClassification, config, attention)


def _gpt2(attention: str) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokens = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0, "n_positions": 16}
    config = GPT2Config(**tokens, n_embd=_WIDTH, n_layer=2, n_head=4, use_cache=False)
    return _made(GPT2LMHeadModel, config, attention)


def _llama(attention: str) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**_TINY, vocab_size=50, num_key_value_heads=2, use_cache=False)
    return _made(LlamaForCausalLM, config, attention)


def _made(kind: Any, config: Any, attention: str) -> nn.Module:
    config._attn_implementation = attention
    return kind(config)  # type: ignore[no-any-return]
