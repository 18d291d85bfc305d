"""The parts of scripts/benchmark. `ours` and `asked_file` alone know of crp_kit: the peers' environment has none."""
