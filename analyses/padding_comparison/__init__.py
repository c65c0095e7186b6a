"""How well position can be read from the same network under each padding.

Trained on digits, or a given model with its padding swapped.
"""
