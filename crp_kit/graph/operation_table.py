"""The table of the operations that crp-kit knows: part by part, what they are, how axes move, and what else they are.

One operation may be in several parts; `_specs` joins them. Names are canonical, see `operation_names`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..models.image_transform import shared_by_weight, transformed_images
from .axes import maps, moves, parts, products
from .axes.layout import Rule, aligned, by_operation
from .graph import Node, Ref
from .operations import Kind, OperationSpec, Trait
from .registry import enter, register_operation

_FIELDS: dict[str, dict[str, Any]] = {}
"""The fields of each operation's spec, from all parts below."""


def _enter(kind: Kind, names: str, parameters: str = "", **fields: Any) -> None:
    """Describe operations that are alike."""
    for name in names.split():
        _FIELDS[name] = {"kind": kind, "parameters": tuple(parameters.split()), **fields}


def _is_reciprocal(node: Node) -> bool:
    """Return whether a quotient normalises: only its denominator depends on the input."""
    return not node.playing(("input",))


def _has_negative_exponent(node: Node) -> bool:
    exponent = node.argument("exponent")
    return isinstance(exponent, (int, float)) and exponent < 0


# ---------------------------------------------------------------------- kinds that arguments of a call decide


def _detached_if_rounded(spec: OperationSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Kind:
    """Return the kind of a quotient: rounded to integers, it has no gradient."""
    return spec.kind if kwargs.get("rounding_mode") is None else Kind.DETACHED


def _routed_if_bounded_by_signals(spec: OperationSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Kind:
    """Return the kind of a clamp: a maximum or minimum of signals, where a bound depends on the input."""
    bounds = (*args[1:], *(value for name, value in kwargs.items() if name != "input"))
    return Kind.STRUCTURAL if any(isinstance(bound, Ref) for bound in bounds) else spec.kind


def _sum_if_accumulated(spec: OperationSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Kind:
    """Return the kind of a write at indices: what it writes may be added to what was there."""
    return Kind.AFFINE if spec.argument(args, kwargs, "accumulate", default=False) else spec.kind


def _by_reduction(spec: OperationSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Kind:
    """Return the kind of a reduction by index: sums and means are affine, extremes select."""
    reduced = {"sum": Kind.AFFINE, "mean": Kind.AFFINE, "amax": Kind.STRUCTURAL, "amin": Kind.STRUCTURAL}
    return reduced.get(spec.argument(args, kwargs, "reduce"), spec.kind)


# ---------------------------------------------------------------------- kinds and arguments

_CONVOLUTION = "input weight bias stride padding dilation groups"
_TRANSPOSED = "input weight bias stride padding output_padding groups dilation"
_WEIGHTED = ("input", "weight")
_enter(Kind.INPUT, "input")
_enter(Kind.LINEAR, "linear", "input weight bias", factors=_WEIGHTED)
_enter(Kind.LINEAR, "conv1d conv2d conv3d", _CONVOLUTION, factors=_WEIGHTED)
_enter(Kind.LINEAR, "conv_transpose1d conv_transpose2d conv_transpose3d", _TRANSPOSED, factors=_WEIGHTED)
_AFFINE = ("weight", "bias")
_STATISTICS = ("running_mean", "running_var")
_enter(
    Kind.BATCH_NORM,
    "batch_norm",
    "input running_mean running_var weight bias training momentum eps",
    fixed=(*_STATISTICS, *_AFFINE),
)

_enter(Kind.NORM, "layer_norm", "input normalized_shape weight bias eps", fixed=_AFFINE)
_enter(Kind.NORM, "group_norm", "input num_groups weight bias eps", fixed=_AFFINE)
_enter(Kind.NORM, "rms_norm", "input normalized_shape weight eps", fixed=("weight",))
_enter(
    Kind.NORM,
    "instance_norm",
    "input running_mean running_var weight bias use_input_stats momentum eps",
    fixed=(*_STATISTICS, *_AFFINE),
)
_enter(Kind.NORM, "local_response_norm", "input size alpha beta k")
_enter(Kind.NORM, "normalize", "input p dim eps")

_enter(Kind.DEVIATION, "var std", "input dim unbiased keepdim correction", gate=True, deviation=True)
_enter(Kind.DEVIATION, "norm", "input p dim keepdim out dtype", gate=True, deviation=True)
_enter(Kind.DEVIATION, "vector_norm linalg_norm linalg_matrix_norm", "x ord dim keepdim", gate=True, deviation=True)
_enter(Kind.DEVIATION, "cdist pairwise_distance", "x1 x2 p")
_enter(Kind.DEVIATION, "dist", "input other p")

_enter(Kind.SUM, "add sub", "input other")
_enter(Kind.SUM, "addcmul", "input tensor1 tensor2", factors=("tensor1", "tensor2"))
_enter(Kind.SUM, "addcdiv", "input tensor1 tensor2", fixed=("tensor2",))
_POOLED = "input kernel_size stride padding ceil_mode count_include_pad"
_enter(Kind.AFFINE, "avg_pool1d", _POOLED)
_enter(Kind.AFFINE, "avg_pool2d avg_pool3d", f"{_POOLED} divisor_override")
_enter(Kind.AFFINE, "mean", "input dim keepdim")
_enter(
    Kind.AFFINE,
    "sum adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d lp_pool1d lp_pool2d lp_pool3d interpolate "
    "upsample fold cumsum nanmean nansum diff trace index_add scatter_add deg2rad rad2deg quantile "
    "nanquantile",
)
_enter(Kind.AFFINE, "trapezoid trapz cumulative_trapezoid", "y x dx dim", fixed=("x",))
_enter(Kind.AFFINE, "lerp", "input end weight", fixed=("weight",))
_enter(Kind.AFFINE, "grid_sample", "input grid", fixed=("grid",))
_enter(Kind.AFFINE, "roi_align ps_roi_align", "input boxes", fixed=("boxes",))
_DEFORMABLE = "input weight offset mask bias"
_enter(Kind.AFFINE, "deform_conv2d", _DEFORMABLE, factors=("input",), fixed=("weight", "offset", "mask"))
_enter(Kind.AFFINE, "addmm", "input mat1 mat2", factors=("mat1", "mat2"))
_enter(Kind.AFFINE, "addmv", "input mat vec", factors=("mat", "vec"))
_enter(Kind.AFFINE, "addr", "input vec1 vec2", factors=("vec1", "vec2"))

_enter(Kind.PRODUCT, "mul", "input other", factors=("input", "other"))
_enter(
    Kind.PRODUCT,
    "div",
    "input other",
    factors=("input",),
    fixed=("other",),
    deviation=_is_reciprocal,
    kind_of_call=_detached_if_rounded,
)
_enter(
    Kind.PRODUCT,
    "matmul mm bmm mv dot vdot inner outer ger kron einsum tensordot chain_matmul multi_dot vecdot linalg_cross",
    factors=("*",),
)
_enter(Kind.PRODUCT, "addbmm baddbmm", "input batch1 batch2", factors=("batch1", "batch2"))
_enter(Kind.PRODUCT, "cosine_similarity", "x1 x2 dim eps", factors=("x1", "x2"))
_enter(Kind.PRODUCT, "bilinear", "input1 input2 weight bias", factors=("input1", "input2", "weight"))
_enter(
    Kind.PRODUCT,
    "scaled_dot_product_attention",
    "query key value attn_mask dropout_p is_causal scale enable_gqa",
    factors=("value",),
    fixed=("query", "key", "attn_mask"),
)

_enter(
    Kind.ACTIVATION,
    "relu relu6 hardtanh hardswish silu gelu elu celu selu leaky_relu rrelu mish softplus softsign softshrink "
    "hardshrink tanhshrink tanh threshold abs neg elementwise atan sinh asinh erf expm1 log1p",
)
_enter(Kind.ACTIVATION, "prelu", "input weight", fixed=("weight",))
_QUANTIZED = "fake_quantize_per_tensor_affine fake_quantize_per_channel_affine"
_enter(Kind.ACTIVATION, _QUANTIZED, "input scale zero_point", fixed=("scale", "zero_point"))
_enter(Kind.ACTIVATION, "sigmoid hardsigmoid logsigmoid log_sigmoid", gate=True)
_enter(Kind.ACTIVATION, "clamp clamp_min clamp_max", "input min max", kind_of_call=_routed_if_bounded_by_signals)
_enter(
    Kind.STRUCTURAL,
    "identity reshape flatten unflatten permute transpose swapaxes swapdims movedim moveaxis t T mT H squeeze "
    "unsqueeze expand repeat repeat_interleave tile contiguous clone float double half bfloat16 getitem select narrow "
    "index_select gather take_along_dim stack hstack vstack dstack chunk split split_with_sizes tensor_split "
    "hsplit vsplit dsplit unbind pad roll flip fliplr flipud rot90 diagonal diag diag_embed tril triu dropout "
    "dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout pixel_shuffle pixel_unshuffle "
    "channel_shuffle native_channel_shuffle unfold im2col where masked_fill masked_select masked_scatter broadcast_to "
    "broadcast_tensors atleast_1d atleast_2d atleast_3d max_pool1d max_pool3d adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
    "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices "
    "fractional_max_pool2d fractional_max_pool3d fractional_max_pool2d_with_indices "
    "fractional_max_pool3d_with_indices embedding fmax fmin positive nan_to_num max_unpool1d max_unpool2d "
    "max_unpool3d max min amax amin maximum minimum aminmax topk sort msort kthvalue median nanmedian mode setitem "
    "copy scatter index_copy index_fill slice_scatter select_scatter diagonal_scatter write_through ravel "
    "block_diag meshgrid column_stack row_stack adjoint resolve_conj resolve_neg cartesian_prod combinations take "
    "cummax cummin linalg_diagonal",
)
_enter(Kind.STRUCTURAL, "index_put", "input indices values accumulate", kind_of_call=_sum_if_accumulated)
_enter(Kind.STRUCTURAL, "put", "input index source accumulate", kind_of_call=_sum_if_accumulated)
_enter(Kind.GRADIENT, "scatter_reduce", "input dim index src reduce include_self", kind_of_call=_by_reduction)
_enter(Kind.GRADIENT, "index_reduce", "input dim index source reduce include_self", kind_of_call=_by_reduction)
_enter(Kind.STRUCTURAL, "view_as_complex view_as_real real imag conj")
_enter(
    Kind.AFFINE,
    "complex complex_map fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 "
    "fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn fft_fftshift fft_ifftshift stft istft",
)
_enter(Kind.STRUCTURAL, "view", "input dtype")
_enter(Kind.STRUCTURAL, "as_strided", "input size stride storage_offset")
_enter(Kind.STRUCTURAL, "to type type_as expand_as view_as reshape_as", "input other", like=("other",))
_enter(Kind.STRUCTURAL, "cat", "tensors dim")
_enter(Kind.STRUCTURAL, "max_pool2d", "input kernel_size stride padding dilation ceil_mode return_indices")
_enter(Kind.STRUCTURAL, "roi_pool ps_roi_pool", "input boxes", fixed=("boxes",))
_enter(Kind.GRADIENT, "softmax log_softmax softmin", "input dim", gate=True)
_enter(Kind.GRADIENT, "rsqrt reciprocal", gate=True, deviation=True)
_enter(Kind.GRADIENT, "exp exp2", gate=True)
_enter(Kind.GRADIENT, "sqrt square logsumexp prod cumprod logcumsumexp")
_enter(Kind.GRADIENT, "pow float_power", "input exponent", deviation=_has_negative_exponent)
_enter(Kind.DETACHED, "detach data sign sgn heaviside floor ceil round trunc floor_divide floordiv")
_enter(
    Kind.DETACHED,
    "zero zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty "
    "new_full new_tensor",
    like=("*",),
)
_enter(Kind.STRUCTURAL, "fill", "input value", like=("input",))
_enter(Kind.OPAQUE, "opaque")

# ---------------------------------------------------------------------- axes

_AXES: dict[str, Rule] = {
    **moves.RULES,
    **parts.RULES,
    **maps.RULES,
    **products.RULES,
    **by_operation(
        {
            aligned: (
                "identity expand expand_as broadcast_to broadcast_tensors contiguous clone to type type_as float "
                "double half bfloat16 detach data copy dropout dropout1d dropout2d dropout3d alpha_dropout "
                "feature_dropout feature_alpha_dropout channel_shuffle native_channel_shuffle softmax log_softmax "
                "softmin cumsum cumprod logcumsumexp cummax cummin normalize tril triu masked_fill fill zero "
                "floor_divide gumbel_softmax resolve_conj resolve_neg"
            ),
        }
    ),
}
"""How channels and samples move; activations, and what torch declares as element-wise, leave them where they are."""

_CONVOLUTIONS = {f"{name}{axes}d": axes for name in ("conv", "conv_transpose") for axes in (1, 2, 3)}
_SPATIAL_AXES = {**_CONVOLUTIONS, **maps.POOLINGS}
_CHANNEL_AXIS = {
    **dict.fromkeys(("linear", "addmm", "embedding"), -1),
    **{name: -1 - axes for name, axes in _CONVOLUTIONS.items()},
}
_FEATURE_AXIS = {
    **dict.fromkeys("linear addmm matmul mm bmm lstm gru rnn_tanh rnn_relu layer_norm rms_norm".split(), -1),
    **dict.fromkeys("batch_norm group_norm instance_norm local_response_norm interpolate upsample".split(), 1),
    **{name: -1 - axes for name, axes in _SPATIAL_AXES.items()},
}

# ---------------------------------------------------------------------- other properties

_SIGNS = {"add": (1, 1), "sub": (1, -1)}
_LAYERS: dict[str, type[nn.Module]] = {
    "linear": nn.Linear,
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "conv3d": nn.Conv3d,
    "conv_transpose1d": nn.ConvTranspose1d,
    "conv_transpose2d": nn.ConvTranspose2d,
    "conv_transpose3d": nn.ConvTranspose3d,
}
_DROPOUTS = "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout"
_TRAITS: dict[Trait, str] = {
    Trait.ADDED_AXIS: "unsqueeze",
    Trait.ATTENTION: "scaled_dot_product_attention",
    Trait.AVERAGE: (
        "mean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"
    ),
    Trait.BY_OUTPUT: "broadcast_tensors",
    Trait.CONCATENATION: "cat",
    Trait.COPY: "copy",
    Trait.DROPOUT: _DROPOUTS,
    Trait.ELEMENTWISE: "add sub mul div pow square exp exp2",
    Trait.EXPONENTIAL: "exp exp2",
    Trait.FLATTENING: "flatten reshape view squeeze",
    Trait.LOOKUP: "embedding getitem index_select",
    Trait.MATRIX_PRODUCT: "matmul mm bmm",
    Trait.MAXIMUM: (
        "max min amax amin maximum minimum max_pool1d max_pool2d max_pool3d max_pool1d_with_indices "
        "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices "
        "fractional_max_pool2d fractional_max_pool3d fractional_max_pool2d_with_indices "
        "fractional_max_pool3d_with_indices"
    ),
    Trait.MODULE: "opaque elementwise",
    Trait.MEMORY_ORDER: "view view_as as_strided complex_map",
    Trait.ORDERING: "topk sort",
    Trait.PASSED_ON: "neg abs pow float_power square sqrt exp exp2",
    Trait.PROBABILITIES: "softmax log_softmax softmin",
    Trait.QUADRATIC: "var",
    Trait.REDUCTION: "mean sum amax amin nanmean max min std var norm vector_norm",
    Trait.RELU: "relu",
    Trait.RESHAPE: "reshape view flatten unflatten ravel view_as reshape_as",
    Trait.SAME_AXES: (
        "softmax log_softmax pow square sqrt rsqrt reciprocal exp mul div erf sin cos layer_norm rms_norm normalize "
        "expand expand_as broadcast_to broadcast_tensors contiguous clone to type_as float double half bfloat16 type "
        f"{_DROPOUTS} where masked_fill cat pad roll flip tril triu index_select take_along_dim cumsum maximum minimum "
        "copy lerp"
    ),
    Trait.SAME_VALUES: f"to float double half bfloat16 type type_as contiguous clone {_DROPOUTS}",
    Trait.SCALING: "mul div",
    Trait.SHIFTS_INTEGERS: "add sub clamp clamp_min clamp_max remainder fmod floordiv",
    Trait.SOFTMAX: "softmax",
    Trait.STRIDED_VIEW: (
        "permute transpose swapaxes swapdims movedim moveaxis t T mT H squeeze getitem select narrow chunk split "
        "split_with_sizes tensor_split unbind"
    ),
    Trait.TABLE: "getitem index_select gather take_along_dim",
    Trait.TRANSPARENT: "identity dropout dropout1d dropout2d dropout3d contiguous clone",
    Trait.TRANSPOSED: "conv_transpose1d conv_transpose2d conv_transpose3d",
    Trait.WRITE: "setitem index_put scatter index_copy",
    Trait.WRITE_THROUGH: "write_through",
}


def _specs() -> dict[str, OperationSpec]:
    """Return the spec of each operation from all parts; one of which only axes or traits are known is unknown."""
    fields: Mapping[str, Mapping[str, Any]] = {
        "axes": _AXES,
        "spatial_axes": _SPATIAL_AXES,
        "channel_axis": _CHANNEL_AXIS,
        "feature_axis": _FEATURE_AXIS,
        "signs": _SIGNS,
        "layer": _LAYERS,
    }
    for field, values in fields.items():
        for name, value in values.items():
            _FIELDS.setdefault(name, {"kind": Kind.UNKNOWN})[field] = value
    for trait, names in _TRAITS.items():
        for name in names.split():
            own = _FIELDS.setdefault(name, {"kind": Kind.UNKNOWN})
            own["traits"] = own.get("traits", frozenset()) | {trait}
    for own in _FIELDS.values():
        if own["kind"] is Kind.ACTIVATION:
            own.setdefault("axes", aligned)
    return {name: OperationSpec(name, **own) for name, own in _FIELDS.items()}


enter(_specs())
register_operation(
    OperationSpec("transformed_images", Kind.AFFINE, (transformed_images,), axes="interpolate", step=shared_by_weight)
)
