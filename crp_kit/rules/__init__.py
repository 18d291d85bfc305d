"""Rules: what a composite says of each node, in presets, rule maps and AttnLRP, and its description and key."""
