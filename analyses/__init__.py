"""The studies: one file each, run(...) -> a result."""
