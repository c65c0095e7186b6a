"""The page of one model: where it knows position, why, by which channels and directions, and what happens without."""
