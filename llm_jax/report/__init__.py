"""A report of a run, from the files that it left."""
