"""Figures of results, on the Axes that they are given or on new ones. Never loads torch."""
