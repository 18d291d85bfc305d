"""Look of relevance, the same in all figures and pages: style, scale and colours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from PIL import Image

from ..errors import InputError
from .highlight import masked_image
from .image import DEFAULT_CMAP, PERCENTILE, ColorMap, colours, heatmap_image, overlay, picture, scale_of

__all__ = ["Look", "Style", "ordinal"]

Style: TypeAlias = Literal["overlay", "map", "masked"]


@dataclass(frozen=True)
class Look:
    """How relevance is drawn.

    Parameters
    ----------
    style : {"overlay", "map", "masked"}, optional
        Colours over the image, which turns grey; colours on white; or the image itself, dark where positive relevance,
        smoothed, is low.
    percentile : float, optional
        The percentile of |relevance| from which values have the strongest colour, above 0 and up to 100, which is the
        largest one. Fewer values than one in two hundred thus cannot fade the others.
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.

    Raises
    ------
    InputError
        If there is no such style, percentile or colour map.

    Examples
    --------
    >>> Look(percentile=50).scale([1.0, -2.0, 3.0, 40.0])
    2.0
    >>> Look().scale_words, Look(percentile=100).scale_words
    ('99.5th percentile of |relevance|', 'largest |relevance|')
    """

    style: Style = "overlay"
    percentile: float = PERCENTILE
    cmap: str | ColorMap = DEFAULT_CMAP

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise InputError(f"style is one of {', '.join(map(repr, get_args(Style)))}; got {self.style!r}")
        colours([0.0], cmap=self.cmap, vmax=scale_of([1.0], percentile=self.percentile))

    @classmethod
    def fitting(cls, style: Style | None, percentile: float, cmap: str | ColorMap, *, images: bool) -> Look:
        """Return a look whose style, if none is named, is "overlay" where there are images of the maps' size."""
        return cls(style or ("overlay" if images else "map"), percentile, cmap)

    @property
    def coloured(self) -> bool:
        """Whether colours stand for relevance."""
        return self.style != "masked"

    @property
    def scale_words(self) -> str:
        """What the strongest colour stands for."""
        return "largest |relevance|" if self.percentile == 100 else f"{ordinal(self.percentile)} of |relevance|"

    def scale(self, values: Any) -> float:
        """Return the magnitude with the strongest colour, for values of any shape."""
        return scale_of(values, percentile=self.percentile)

    def draw(self, image: Any, heatmap: Any, *, vmax: float | None = None) -> Image.Image:
        """Return a heatmap, (height, width), as a picture of the same size.

        Parameters
        ----------
        image : PIL image, torch.Tensor or array, or None
            What the model saw, of the same height and width; the style "map" does without.
        heatmap : torch.Tensor or array
            Signed relevance: (height, width).
        vmax : float, optional
            The magnitude with the strongest colour, instead of the percentile of the heatmap.

        Raises
        ------
        InputError
            If there is no image or the sizes differ, where the style needs an image, or the heatmap is none.
        """
        if self.style == "map":
            return heatmap_image(heatmap, cmap=self.cmap, vmax=vmax, percentile=self.percentile)
        if image is None:
            raise InputError(f"style {self.style!r} needs the image that the model saw; without it there is 'map'")
        if self.style == "masked":
            return picture(masked_image(image, heatmap, percentile=self.percentile))
        return overlay(image, heatmap, cmap=self.cmap, vmax=vmax, percentile=self.percentile)

    def draw_fitting(self, image: Image.Image, heatmap: Any) -> Image.Image:
        """Return the same, in the style "map" where image and heatmap differ in size."""
        fits = image.size[::-1] == tuple(heatmap.shape)
        return (self if fits else replace(self, style="map")).draw(image, heatmap)


def ordinal(percentile: float) -> str:
    """Return the name of a percentile.

    Examples
    --------
    >>> ordinal(99.5), ordinal(91), ordinal(11.0)
    ('99.5th percentile', '91st percentile', '11th percentile')
    """
    text = f"{percentile:g}"
    whole = "." not in text and not text.endswith(("11", "12", "13"))
    ending = {"1": "st", "2": "nd", "3": "rd"}.get(text[-1], "th") if whole else "th"
    return f"{text}{ending} percentile"
