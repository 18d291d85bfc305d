"""Evaluation of the concepts of a study."""

from __future__ import annotations

from pathlib import Path

from .composite_methods import CompositeEvaluations
from .effects import EffectEvaluations
from .maps import MapEvaluations
from .reference_methods import ReferenceEvaluations
from .result_file import Result, checked_path, load_result, save_result
from .robustness_methods import RobustnessEvaluations

__all__ = ["Evaluation"]


class Evaluation(EffectEvaluations, MapEvaluations, RobustnessEvaluations, ReferenceEvaluations, CompositeEvaluations):
    """Evaluations of a study. `Study.evaluate` returns it.

    Parameters
    ----------
    subject : Subject
        What is evaluated: model, data, rules and concepts.
    checkpoint : Path, optional
        Where what is done is kept; see `resumable`.
    """

    def resumable(self, checkpoint: str | Path) -> Evaluation:
        """Return the same evaluations that keep in a file what is done, from which an interrupted one goes on.

        After Ctrl-C or a kill, the same call computes what is missing, and returns bit for bit what it would have
        without the interruption. Flipping, insertion, impact, randomisation, sensitivity and localisation keep each
        batch of samples, `composites` each composite, `concept_localisation` each concept; the other evaluations keep
        nothing.

        Parameters
        ----------
        checkpoint : str or Path
            Of one evaluation; made if it is not there. It stays until you remove it, when the result is saved.

        Returns
        -------
        Evaluation
            Its evaluations raise an `InputError` if the file is of another evaluation, with other settings, rules,
            model or data, or another process works with it.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(4), preprocess=demo_preprocess)
        >>> checkpoint = Path(tempfile.mkdtemp(), "impact.partial")
        >>> impact = study.evaluate.resumable(checkpoint).impact("layer3.1.conv2")
        >>> again = study.evaluate.resumable(checkpoint).impact("layer3.1.conv2")  # takes no time
        >>> bool((again.impact == impact.impact).all())
        True
        """
        return Evaluation(self._subject, checked_path(checkpoint))

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
        save_result(result, self._subject, checked_path(path), overwrite=overwrite)

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
