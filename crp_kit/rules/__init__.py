"""How each node hands its relevance to its inputs, and which rule each node gets from a composite."""
