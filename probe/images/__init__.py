"""What a model is shown.

Data sets of every form as numbered batches, the stimuli drawn for each image from its number, and images placed on
larger canvases.
"""
