"""Replay: episodes as records (JSON) and as web pages that open anywhere, without a server.

A page loads nothing: pictures are inside it, its policy forbids requests and every script but the one that it
was made with, and every text of a question, a document or an agent is escaped.
"""

from vrag_env.replay.compare import comparison_html, write_comparison
from vrag_env.replay.page import record_html, replay_html, write_replay
from vrag_env.replay.pictures import corpus_images
from vrag_env.replay.record import RECORD_FORMAT, EpisodeRecord, Sampled, episode_to_record, read_records
from vrag_env.replay.run import write_run

__all__ = [
    "RECORD_FORMAT",
    "EpisodeRecord",
    "Sampled",
    "comparison_html",
    "corpus_images",
    "episode_to_record",
    "read_records",
    "record_html",
    "replay_html",
    "write_comparison",
    "write_replay",
    "write_run",
]
