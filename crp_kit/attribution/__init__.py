"""Conditional attribution: rows, start relevance, masks, relevance at layers, results, conservation."""
