"""What is kept of the activations.

Sums over samples that can be added up across batches, processes and runs, and from which every score follows.
Nothing that grows with the number of images.
"""
