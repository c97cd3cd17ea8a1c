"""What the numeric face of the environment is made of: embeddings, candidates, and their features.

The environments themselves are in :mod:`vrag_env.discrete`.
"""

from vrag_env.numeric.candidates import AnswerCandidate, CandidateProvider, TextCandidates
from vrag_env.numeric.embedder import Embedder, HashingEmbedder, SentenceEmbedder, make_embedder
from vrag_env.numeric.oracle import OracleCeiling

__all__ = [
    "AnswerCandidate",
    "CandidateProvider",
    "Embedder",
    "HashingEmbedder",
    "OracleCeiling",
    "SentenceEmbedder",
    "TextCandidates",
    "make_embedder",
]
