"""Generated worlds: seeded documents with charts, tables, text, pictures and plans, and questions about them.

Example:
    >>> from vrag_env.corpus.generate import WorldConfig, generate_world
    >>> import tempfile
    >>> questions = generate_world(WorldConfig(documents=2, kinds=("board",)), tempfile.mkdtemp())
    >>> questions[0].query_type
    'Single-Hop'
"""

from vrag_env.corpus.generate.build import (
    build_wide_world,
    build_world,
    builtin_world,
    cache_directory,
    cached_world,
)
from vrag_env.corpus.generate.config import GENERATOR_VERSION, KINDS, WorldConfig
from vrag_env.corpus.generate.pages_board import CARD_COLOURS
from vrag_env.corpus.generate.symbols import SYMBOLS
from vrag_env.corpus.generate.wide import PAGE_KINDS, WorldDials, WorldReport, generate_wide_world
from vrag_env.corpus.generate.world import generate_world

__all__ = [
    "CARD_COLOURS",
    "GENERATOR_VERSION",
    "KINDS",
    "PAGE_KINDS",
    "SYMBOLS",
    "WorldConfig",
    "WorldDials",
    "WorldReport",
    "build_wide_world",
    "build_world",
    "builtin_world",
    "cache_directory",
    "cached_world",
    "generate_wide_world",
    "generate_world",
]
