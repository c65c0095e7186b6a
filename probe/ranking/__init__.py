"""Which channels of a layer carry position.

The methods that rank them, how strong each channel is by each, and how far rankings agree.
"""
