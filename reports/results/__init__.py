"""The page of any result that is not a study: what it shows in a sentence or two, its figure, its main numbers."""
