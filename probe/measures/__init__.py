"""Where a model knows position.

Readouts layer by layer, single channels, globally pooled vectors, and how alike the features of an object are
wherever it stands.
"""
