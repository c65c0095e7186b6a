"""A lent model, numbered images, and one reading of them.

The arguments that all measurements share, the reader, the cells that are read, and the statistics collected from
them.
"""
