"""AugShift: the pooled features of two shifted views pulled together, beside anti-aliasing, polyphase and controls."""
