"""The numbers that Islam, Jia and Bruce (ICLR 2020) published of PosENet: Spearman correlation and mean error."""

__all__ = ["PUBLISHED"]

_IMAGES = ("natural", "black", "white", "noise")
_Scores = tuple[float, float]

# Table 1. The sign of values near 0 is not certain.
_BY_IMAGES: dict[tuple[str, str], tuple[_Scores, ...]] = {
    ("image, 3×3", "H"): ((0.012, 0.251), (0.0, 0.251), (0.0, 0.251), (0.001, 0.251)),
    ("vgg16 all, 3×3", "H"): ((0.742, 0.149), (0.751, 0.164), (0.873, 0.157), (0.591, 0.173)),
    ("resnet all, 3×3", "H"): ((0.933, 0.084), (0.987, 0.080), (0.994, 0.078), (0.973, 0.077)),
    ("image, 3×3", "V"): ((0.131, 0.248), (0.0, 0.251), (0.0, 0.251), (0.053, 0.250)),
    ("vgg16 all, 3×3", "V"): ((0.816, 0.129), (0.846, 0.146), (0.927, 0.138), (0.771, 0.150)),
    ("resnet all, 3×3", "V"): ((0.951, 0.083), (0.978, 0.069), (0.979, 0.072), (0.968, 0.074)),
    ("image, 3×3", "G"): ((-0.001, 0.233), (0.0, 0.186), (0.0, 0.186), (-0.034, 0.214)),
    ("vgg16 all, 3×3", "G"): ((0.814, 0.109), (0.842, 0.123), (0.898, 0.116), (0.762, 0.129)),
    ("resnet all, 3×3", "G"): ((0.936, 0.070), (0.953, 0.068), (0.964, 0.064), (0.971, 0.055)),
    ("image, 3×3", "HS"): ((-0.001, 0.712), (-0.055, 0.704), (0.0, 0.704), (0.023, 0.710)),
    ("vgg16 all, 3×3", "HS"): ((0.405, 0.556), (0.532, 0.583), (0.576, 0.574), (0.375, 0.573)),
    ("resnet all, 3×3", "HS"): ((0.534, 0.528), (0.566, 0.518), (0.562, 0.515), (0.471, 0.530)),
    ("image, 3×3", "VS"): ((0.006, 0.723), (0.081, 0.709), (0.081, 0.709), (0.018, 0.714)),
    ("vgg16 all, 3×3", "VS"): ((0.374, 0.567), (0.538, 0.575), (0.437, 0.578), (0.526, 0.566)),
    ("resnet all, 3×3", "VS"): ((0.520, 0.537), (0.574, 0.523), (0.593, 0.514), (0.523, 0.545)),
}

# Tables 2, 3 and 4, natural images.
_NATURAL: dict[tuple[str, str], _Scores] = {
    ("image, 3×3, depth 2", "H"): (0.056, 0.250),
    ("image, 3×3, depth 3", "H"): (0.055, 0.250),
    ("image, 3×3, depth 2", "G"): (0.067, 0.187),
    ("image, 3×3, depth 3", "G"): (0.126, 0.186),
    ("image, 3×3, depth 2", "HS"): (-0.006, 0.628),
    ("image, 3×3, depth 3", "HS"): (0.003, 0.628),
    ("vgg16 all, 3×3, depth 2", "H"): (0.797, 0.128),
    ("vgg16 all, 3×3, depth 3", "H"): (0.830, 0.117),
    ("vgg16 all, 3×3, depth 2", "G"): (0.828, 0.105),
    ("vgg16 all, 3×3, depth 3", "G"): (0.835, 0.104),
    ("vgg16 all, 3×3, depth 2", "HS"): (0.483, 0.538),
    ("vgg16 all, 3×3, depth 3", "HS"): (0.491, 0.540),
    ("image, 1×1", "H"): (0.013, 0.251),
    ("image, 7×7", "H"): (0.060, 0.250),
    ("image, 1×1", "G"): (0.017, 0.188),
    ("image, 7×7", "G"): (0.068, 0.187),
    ("image, 1×1", "HS"): (-0.004, 0.628),
    ("image, 7×7", "HS"): (0.002, 0.628),
    ("vgg16 all, 1×1", "H"): (0.542, 0.196),
    ("vgg16 all, 7×7", "H"): (0.828, 0.120),
    ("vgg16 all, 1×1", "G"): (0.724, 0.127),
    ("vgg16 all, 7×7", "G"): (0.816, 0.111),
    ("vgg16 all, 1×1", "HS"): (0.317, 0.576),
    ("vgg16 all, 7×7", "HS"): (0.487, 0.532),
    ("vgg16 f1, 3×3", "H"): (0.101, 0.249),
    ("vgg16 f2, 3×3", "H"): (0.344, 0.225),
    ("vgg16 f3, 3×3", "H"): (0.472, 0.203),
    ("vgg16 f4, 3×3", "H"): (0.610, 0.181),
    ("vgg16 f5, 3×3", "H"): (0.657, 0.177),
    ("vgg16 f1, 3×3", "G"): (0.241, 0.182),
    ("vgg16 f2, 3×3", "G"): (0.404, 0.168),
    ("vgg16 f3, 3×3", "G"): (0.588, 0.146),
    ("vgg16 f4, 3×3", "G"): (0.653, 0.138),
    ("vgg16 f5, 3×3", "G"): (0.693, 0.135),
    ("image, 3×3, padding 1", "H"): (0.274, 0.239),
    ("image, 3×3, padding 2", "H"): (0.397, 0.223),
    ("image, 3×3, padding 1", "G"): (0.205, 0.184),
    ("image, 3×3, padding 2", "G"): (0.380, 0.177),
    ("image, 3×3, padding 1", "HS"): (0.148, 0.608),
    ("image, 3×3, padding 2", "HS"): (0.214, 0.595),
    ("vgg16 unpadded all, 3×3", "H"): (0.381, 0.223),
    ("vgg16 unpadded all, 3×3", "G"): (0.359, 0.174),
    ("vgg16 unpadded all, 3×3", "HS"): (0.011, 0.628),
}

PUBLISHED: dict[tuple[str, str, str], _Scores] = {
    **{
        (setting, target, images): scores
        for (setting, target), row in _BY_IMAGES.items()
        for images, scores in zip(_IMAGES, row, strict=True)
    },
    **{(setting, target, "natural"): scores for (setting, target), scores in _NATURAL.items()},
}
"""(setting, map, images) -> Spearman correlation and mean absolute error, as `study.run` gives them."""
