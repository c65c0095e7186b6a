"""What the windows of a model read, from its geometry alone.

Paths, receptive fields, padding that is never read, and sizes at which all of it is. No data is needed.
"""
