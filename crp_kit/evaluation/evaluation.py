"""Evaluation of the concepts of a study."""

from __future__ import annotations

from pathlib import Path

from .composite_methods import CompositeEvaluations
from .effects import EffectEvaluations
from .maps import MapEvaluations
from .reference_methods import ReferenceEvaluations
from .result_file import Result, load_result, save_result
from .robustness_methods import RobustnessEvaluations

__all__ = ["Evaluation"]


class Evaluation(EffectEvaluations, MapEvaluations, RobustnessEvaluations, ReferenceEvaluations, CompositeEvaluations):
    """Evaluations of a study. `Study.evaluate` returns it.

    Parameters
    ----------
    subject : Subject
        What is evaluated: model, data, rules and concepts.
    """

    def save(self, result: Result, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a result to a small file, with the fingerprints of the study's model and data.

        Parameters
        ----------
        result : Result
            What one of the evaluations of this study has returned; a `SplitConcept`, which holds images, is none.
        path : str or Path
            Its name ends with .npz. It has this name only when it is whole.
        overwrite : bool, optional
            Replace a file that exists.

        Raises
        ------
        InputError
            If it is no such result, the name has another ending, or the file exists or cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(4), preprocess=demo_preprocess)
        >>> path = f"{tempfile.mkdtemp()}/impact.npz"
        >>> study.evaluate.save(study.evaluate.impact("layer3.1.conv2"), path)
        >>> study.evaluate.load(path).impact.shape
        (4, 64)
        """
        save_result(result, self._subject, Path(path), overwrite=overwrite)

    def load(self, path: str | Path, *, check: bool = True) -> Result:
        """Return a result from a file that `save` has written.

        Parameters
        ----------
        path : str or Path
            Of the file.
        check : bool, optional
            Make sure that it is of the study's model and data.

        Raises
        ------
        InputError
            If there is no such file, it is something else, or the result is of another model or of other data.
        """
        stored = load_result(path)
        if check:
            stored.check_belongs(self._subject)
        return stored.result
