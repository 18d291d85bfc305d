"""Questions to a finished atlas, and its reference samples."""
