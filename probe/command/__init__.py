"""The command `probe`.

Its arguments, its tables, models by name, and the commands of studies and pages. Nothing of the library enters here.
"""
