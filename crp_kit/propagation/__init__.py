"""Execution: the engine and its cache, plans, relevance passes, and the steps and kernels that they run."""
