"""Which channels of a layer carry position by each method.

What the model loses without them, and the images that move them most.
"""
