"""Actions told from clips, by networks whose convolutions are truncated, full or circular in space and time."""
