"""Kernels: transposed convolutions, by Winograd's algorithm too, and max pooling, for many rows at once."""
