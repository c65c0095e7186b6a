"""The page of position channels: which rank first, how far rankings agree, and what the model loses without them."""
