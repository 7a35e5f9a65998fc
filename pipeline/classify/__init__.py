"""Classification: what the network's head makes of each concept, and whether it is true."""

from .answers import Answers
from .blur import Blurred, blur_concept, moved_region
from .curves import Curves, curves
from .fidelity import Effects, compare, effects, fidelity
from .importance import rank_agreement, sobol_total
from .novelty import Novelty, Quantiles, novelty, quantiles, unexplained
from .null import Null, NullTest
from .place import Place, places
from .scores import NO_CLASS, score_vectors, top_classes, unit_logits
from .splits import Split, contributions, split
from .statistics import benjamini_hochberg, interval

__all__ = [
    "NO_CLASS",
    "Answers",
    "Blurred",
    "Curves",
    "Effects",
    "Novelty",
    "Null",
    "NullTest",
    "Place",
    "Quantiles",
    "Split",
    "benjamini_hochberg",
    "blur_concept",
    "compare",
    "contributions",
    "curves",
    "effects",
    "fidelity",
    "interval",
    "moved_region",
    "novelty",
    "places",
    "quantiles",
    "rank_agreement",
    "score_vectors",
    "sobol_total",
    "split",
    "top_classes",
    "unexplained",
    "unit_logits",
]
