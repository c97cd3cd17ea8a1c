"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CorpusOption = Annotated[
    Path | None,
    typer.Option(help="Directory of a corpus, made by 'vrag index'. Default: the built-in world."),
]
QuestionsOption = Annotated[
    Path | None,
    typer.Option(help="Questions in the common JSON of VRAG-RL. Default: those of the built-in world."),
]
RetrieverOption = Annotated[
    str,
    typer.Option(
        help="'lexical' (BM25); a model by which the corpus was embedded, such as 'colqwen2.5' or 'minilm'; 'hybrid' "
        "(lexical and that model), or with weights 'hybrid:lexical+colqwen2.5*0.7'; or the http:// address of a "
        "'vrag serve'."
    ),
]
