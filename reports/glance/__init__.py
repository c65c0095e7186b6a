"""A result at a glance, in a terminal, in a notebook and of `probe show`: its main numbers, a sentence, a figure."""
