"""Descriptors of patches learned from few matching pairs: HardNet with truncated and with full convolution."""
