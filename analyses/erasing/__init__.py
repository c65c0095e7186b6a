"""Position erased from trained networks: what is left to read, what the networks lose, and what matching gains."""
