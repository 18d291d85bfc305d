"""Statistics as pure functions on arrays, which know nothing of atlases and models."""
