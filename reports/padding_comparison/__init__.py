"""The page that compares paddings: position by layer on natural and on rolled images, and what follows from it."""
