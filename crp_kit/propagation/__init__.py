"""Execution: the engine, the plan, the relevance pass, and the step of each node."""
