"""What happens without position.

Channels taken away in the forward pass, many choices of them at once, and curves of what the model loses beside
random draws.
"""
