"""Everything that can be told of one model: where it knows position, why, which directions, and what happens without."""
