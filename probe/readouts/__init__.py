"""What the sums tell.

Ridge readouts of position and their scores, single channels, what a readout loses without a channel, and a linear
discriminant. Knows neither models nor images.
"""
