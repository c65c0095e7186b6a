"""Position taken away by directions, and what is left of it.

An eraser is fitted to the sums of a layer; what readouts still find is told from the same sums, held out, by stronger
readouts, and by the layers behind, and all of it stands beside what the model loses.
"""
