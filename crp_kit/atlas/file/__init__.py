"""The HDF5 format of atlases: its schema, reading, writing, checking."""
