"""Models by name, their state dicts, checks of their parameters."""
