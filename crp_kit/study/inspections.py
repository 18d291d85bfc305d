"""Inspections of the model of a study: its graph, layers, rules, and what to know before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import StudyBase

if TYPE_CHECKING:
    from ..graph.graph import Graph
    from ..inspection import LayerGuide, LayerIndices, ModelCheck, RuleTable

__all__ = ["Inspections"]


class Inspections(StudyBase):
    """Inspections of the model."""

    def graph(self, image: Any = None) -> Graph:
        """Return the recorded graph, with all names that conditions can use.

        Parameters
        ----------
        image : torch.Tensor or other inputs, optional
            Whose forward is recorded; by default the first sample of the data.
        """
        return self.attribution.graph(self._example(image), self.subject.composite)

    def check(self, image: Any = None) -> ModelCheck:
        """Return what to know about the model under the study's rules: what has no rule, what never runs.

        Parameters
        ----------
        image : torch.Tensor or other inputs, optional
            By default the first sample of the data.
        """
        from ..inspection import check_model

        return check_model(self.attribution, self._example(image), self.subject.composite)

    def rules(self, image: Any = None) -> RuleTable:
        """Return which rule each node of the model gets.

        Parameters
        ----------
        image : torch.Tensor or other inputs, optional
            By default the first sample of the data.
        """
        from ..inspection import rule_table

        return rule_table(self.attribution, self._example(image), self.subject.composite)

    def layers(self, image: Any = None) -> LayerGuide:
        """Return the layers of the model with what helps to choose among them, and a handful that is suggested.

        Parameters
        ----------
        image : torch.Tensor or other inputs, optional
            By default the first sample of the data.

        Returns
        -------
        LayerGuide
            A row for each layer; its `suggestion` has the names for ``build_atlas(layers=…)``.

        Examples
        --------
        >>> import crp_kit as crp
        >>> crp.Study(crp.load_model("demo:resnet"), crp.load_data("demo:shapes:1")).layers().suggestion
        ('layer1.1.relu_1', 'layer2.1.relu_1', 'layer3.1.relu_1')
        """
        from ..inspection import layer_guide

        return layer_guide(self.attribution, self._example(image), self.subject.composite, self.subject.concepts)

    def layer_indices(self, image: Any = None) -> LayerIndices:
        """Return the layers with the indices by which `crp_kit.rules.maps` give them rules.

        Parameters
        ----------
        image : torch.Tensor or other inputs, optional
            By default the first sample of the data.
        """
        from ..inspection import show_layer_indices

        return show_layer_indices(self.attribution, self._example(image))
