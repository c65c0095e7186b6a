"""What can be read of a model.

Its layers and their layouts, the hooks that read them, and how a model is lent and handed back. Knows no images but
the tensors that it is given.
"""
