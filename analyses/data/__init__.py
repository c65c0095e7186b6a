"""Images to train and to probe small networks on, read from folders or made from what comes with scikit-learn."""
