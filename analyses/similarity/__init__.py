"""How alike the features of an object are wherever in the frame it stands.

After Lee, Yang and Wang (2020), with and without anti-aliasing.
"""
