"""Where a model knows position.

Readouts layer by layer, single channels, globally pooled vectors, how alike the features of an object are wherever it
stands, whether predictions outlive a shift, and whether features find their like at the same place.
"""
