"""Classification: what the network's head makes of each concept, and whether it is true."""

from pipeline.classify.answers import Answers
from pipeline.classify.blur import Blurred, blur_concept, moved_region
from pipeline.classify.bootstrap import interval
from pipeline.classify.curves import Curves, curves
from pipeline.classify.fidelity import Effects, compare, effects, fidelity
from pipeline.classify.importance import rank_agreement, sobol_total
from pipeline.classify.novelty import Novelty, Quantiles, novelty, quantiles, unexplained
from pipeline.classify.null import Null, NullTest, benjamini_hochberg
from pipeline.classify.scores import evidence, score_vectors
from pipeline.classify.splits import Split, contributions, split

__all__ = [
    "Answers",
    "Blurred",
    "Curves",
    "Effects",
    "Novelty",
    "Null",
    "NullTest",
    "Quantiles",
    "Split",
    "benjamini_hochberg",
    "blur_concept",
    "compare",
    "contributions",
    "curves",
    "effects",
    "evidence",
    "fidelity",
    "interval",
    "moved_region",
    "novelty",
    "quantiles",
    "rank_agreement",
    "score_vectors",
    "sobol_total",
    "split",
    "unexplained",
]
