"""The corpus: pages of documents in LanceDB, and the ways to fill it."""

from vrag_env.corpus.ingest import LONG_SIDE, IngestReport, ingest
from vrag_env.corpus.records import Box, Page, Word, page_id_of
from vrag_env.corpus.store import Corpus

__all__ = ["LONG_SIDE", "Box", "Corpus", "IngestReport", "Page", "Word", "ingest", "page_id_of"]
