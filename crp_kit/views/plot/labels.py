"""Text in figures: names without mathematics, titles in one line, shares, and what the strongest colour stands for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["literal", "one_line", "percent", "scale_label", "shortened", "significant"]


def literal(text: str) -> str:
    """Escape the dollar signs of a text, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def one_line(text: str) -> str:
    """Return a title in one line, its lines joined by semicolons, without mathematics."""
    return literal("; ".join(text.splitlines()))


def shortened(text: str, letters: int) -> str:
    """Return a text of so many letters at most, its end cut."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def percent(share: float) -> str:
    """Return a share in percent, with one decimal where it would else be 0."""
    return f"{100 * share:.0f} %" if abs(share) >= 0.01 else f"{100 * share:.1f} %"


def significant(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:#.3g}".rstrip(".")


def scale_label(heatmap: npt.NDArray[np.float64]) -> str:
    """Return the magnitude that the strongest colour of a map stands for, where each map has its own scale."""
    strongest = float(np.abs(heatmap).max())
    return f"± {strongest:.2g}" if strongest else "all zero"
