"""The recorded graph: which torch calls a model makes, under which names, and how they hang together."""
