"""Differential fuzzer: random small programs, run by crp-kit and by oracles that share no code with it."""
