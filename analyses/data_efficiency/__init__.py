"""Few training images, other borders: what a classifier learns of them, and what it knows where they never stood."""
