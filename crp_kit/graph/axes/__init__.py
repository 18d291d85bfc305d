"""The layout of channels and of samples, followed through the operations of a recorded graph."""
