"""Slow, independent implementations that the tests compare the library with; none of them imports the library."""
