"""Everything that can be told of one model: where it knows position, why, by which directions, and what they do."""
