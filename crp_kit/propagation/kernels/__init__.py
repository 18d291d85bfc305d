"""Kernels: transposed convolutions, by Winograd's algorithm too, matrix products, and max pooling, for many rows."""
