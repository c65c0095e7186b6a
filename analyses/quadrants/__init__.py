"""Whether a network tells in which corner an image stands.

After Kayhan and van Gemert (2020), with borders ever further away.
"""
