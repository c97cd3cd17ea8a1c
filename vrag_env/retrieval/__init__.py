"""Retrieval: queries in, ranked pages out."""

from vrag_env.retrieval.base import Hit, Retriever
from vrag_env.retrieval.factory import RETRIEVERS, make_retriever
from vrag_env.retrieval.late_interaction import (
    LateInteractionEncoder,
    LateInteractionRetriever,
    build_embeddings,
)
from vrag_env.retrieval.lexical import LexicalRetriever
from vrag_env.retrieval.metrics import mrr_at_k, ndcg_at_k, recall_at_k

__all__ = [
    "RETRIEVERS",
    "Hit",
    "LateInteractionEncoder",
    "LateInteractionRetriever",
    "LexicalRetriever",
    "Retriever",
    "build_embeddings",
    "make_retriever",
    "mrr_at_k",
    "ndcg_at_k",
    "recall_at_k",
]
