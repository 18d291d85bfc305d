"""Conditional attribution: rows, masks, relevance at layers, results, conservation."""
