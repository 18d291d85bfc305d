"""Transposed convolutions, Winograd and max-pooling, faster than torch has them."""
