"""The same weights with one thing changed.

The padding of every layer, with what the maps then need to fit together, or the way in which maps are sub-sampled.
"""
