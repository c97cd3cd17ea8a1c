"""Retrieval: queries in, ranked pages out."""

from vrag_env.retrieval.base import Hit, Retriever
from vrag_env.retrieval.encoder import Encoder
from vrag_env.retrieval.factory import RETRIEVERS, load_encoder, make_retriever, register_retriever
from vrag_env.retrieval.hybrid import HybridRetriever
from vrag_env.retrieval.late_interaction import (
    LateInteractionEncoder,
    LateInteractionRetriever,
    build_embeddings,
)
from vrag_env.retrieval.lexical import LexicalRetriever
from vrag_env.retrieval.metrics import mrr_at_k, ndcg_at_k, recall_at_k
from vrag_env.retrieval.remote import RemoteRetriever
from vrag_env.retrieval.sentence import SentenceEncoder

__all__ = [
    "RETRIEVERS",
    "Encoder",
    "Hit",
    "HybridRetriever",
    "LateInteractionEncoder",
    "LateInteractionRetriever",
    "LexicalRetriever",
    "RemoteRetriever",
    "Retriever",
    "SentenceEncoder",
    "build_embeddings",
    "load_encoder",
    "make_retriever",
    "mrr_at_k",
    "ndcg_at_k",
    "recall_at_k",
    "register_retriever",
]
