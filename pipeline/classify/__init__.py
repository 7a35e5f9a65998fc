"""Classification: what the network's head makes of each concept, and whether it is true."""

from pipeline.classify.fidelity import Effects, effects, fidelity
from pipeline.classify.null import NullTest, benjamini_hochberg, null_test
from pipeline.classify.scores import evidence, score_vectors
from pipeline.classify.splits import contributions

__all__ = [
    "Effects",
    "NullTest",
    "benjamini_hochberg",
    "contributions",
    "effects",
    "evidence",
    "fidelity",
    "null_test",
    "score_vectors",
]
