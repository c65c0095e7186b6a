"""The studies, each a file or a folder with ``STUDY`` and ``run(...) -> result``, on the ground that they share."""
