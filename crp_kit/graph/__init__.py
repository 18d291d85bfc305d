"""The recorded graph: which torch calls a model makes, under which names, and how they hang together."""

from . import operation_table  # noqa: F401, fills the registry before anything looks an operation up
