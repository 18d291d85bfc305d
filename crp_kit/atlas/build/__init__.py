"""The pass over a dataset that fills an atlas: settings, scores, statistics, checkpoints, shards and their merge."""
