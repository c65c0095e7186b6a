"""What the terms of results mean."""

from probe.reports.page.samples import R2_MEANING

__all__ = ["MEANINGS", "meanings_of"]

MEANINGS = {
    "R²": R2_MEANING,
    "R² shuffled": "The same readout where the positions of every image are shuffled: 0 up to noise.",
    "R² other maps": "The same readout of other maps, mean over fixed permutations of the grid that are orthogonal to "
    "the target: how well any map can be read.",
    "bits": "Information that the readout gives on a row or column: −½ log₂(1 − R²); 0 where R² is not above 0.",
    "samples a channel": "How many samples, cells of images, the readout saw for each channel.",
    "ω²": "Share of a channel's variance that position explains. 0 in expectation where it plays no part.",
    "natural": "The images as they are: content tells position, for example by light from above.",
    "rolled": "Each image shifted circularly by a random offset, so that content cannot tell position; what can still "
    "be read comes from the architecture.",
    "±": "Half of the 95 % interval of this one network, over images.",
    "LEACE": "The least change of the features after which no linear readout of a cell finds the targets (Belrose et "
    "al. 2023). Other readouts may.",
    "every position": "Which of all cells a feature is from: the share of the variance of all positions that is read.",
    "cost": "Mean squared change of the features over their variance.",
    "random directions": "Subspaces of the same rank, drawn at random and projected out.",
    "stability": "Spearman's correlation of the scores from two halves of the images.",
    "Holm": "Correction for the number of comparisons (Holm 1979): the chance of a single false verdict is at most "
    "5 %.",
    "chance": "What is expected without knowledge of position: of images in cells of a canvas, the share in the most "
    "common one, which a constant answer would get; of nearest cells, the number within reach over all cells.",
    "consistency": "How often the prediction of a model is the same at two shifts of an image; of embeddings, their "
    "mean cosine similarity. 1: shifts change nothing.",
    "same place": "Of a cell's features, the nearest (cosine) among the cells of another image lies at the same place. "
    "1: features tell place alone; at chance: they do not tell it.",
    "local roughness": "How far the similarity at a position is, on average, from the mean of its two neighbours; 0 "
    "where it changes evenly.",
    "global similarity": "Mean cosine similarity of the features at all positions of an object to those at a "
    "reference; 1: the layer does not tell position.",
    "change at the border": "Squared difference of the mean activation at the outermost cells from that in the middle, "
    "over the channel's variance, mean over channels and sides: 0 where position plays no part.",
    "reach of the border": "Pixels from it within which the change exceeds the threshold beyond its error, on the side "
    "where it goes farthest.",
    "padding that is never read": "Rows, columns or frames of padding that no window reaches, because sizes and "
    "strides do not match. They make opposite borders unlike.",
    "linear readout of a cell": "Sees the channels at one cell, and weighs them. What it does not find may still be "
    "there for others: erasing is linear, and cell by cell.",
    "perceptron": "Two layers with 64 hidden units, trained on cells of some images and scored on others; its error is "
    "over random starts.",
}


def meanings_of(said: str) -> list[tuple[str, str]]:
    """Return each term that a text uses, with its meaning."""
    return [(term, meaning) for term, meaning in MEANINGS.items() if term in said]
