"""Statistical questions to one layer of an atlas. Each takes stored scores and returns a table."""
