"""Wide worlds: endless seeded slide decks and reports on eight subjects, in sixteen kinds of page, two languages.

``docs/worlds.md`` shows the pages, and lists the dials and the types of question.

Example:
    >>> from vrag_env.corpus.generate.wide import WorldDials, generate_wide_world
    >>> import tempfile
    >>> generate_wide_world(WorldDials(questions=4, distractors=1), tempfile.mkdtemp(), progress=False).documents
    2
"""

from vrag_env.corpus.generate.wide.dials import PAGE_KINDS, WIDE_VERSION, WorldDials
from vrag_env.corpus.generate.wide.family import draw_family, held_out
from vrag_env.corpus.generate.wide.world import WorldReport, generate_wide_world

__all__ = [
    "PAGE_KINDS",
    "WIDE_VERSION",
    "WorldDials",
    "WorldReport",
    "draw_family",
    "generate_wide_world",
    "held_out",
]
