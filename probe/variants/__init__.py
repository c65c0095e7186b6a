"""The same weights with one thing changed.

The padding of every layer, with what the maps then need to fit together; the way in which maps are sub-sampled; or the
tables by which a transformer is told position. Each answers why a model knows where it looks.
"""
