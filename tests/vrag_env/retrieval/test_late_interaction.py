from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from retrieval_pages import make_corpus

torch = pytest.importorskip("torch")
pytest.importorskip("colpali_engine")

from tiny_encoders import tiny_colmodernvbert, tiny_colqwen2_5  # noqa: E402 (needs both)

from vrag_env.corpus import Corpus  # noqa: E402
from vrag_env.errors import RetrieverError  # noqa: E402
from vrag_env.retrieval import LateInteractionEncoder, LateInteractionRetriever, Retriever  # noqa: E402
from vrag_env.retrieval import late_interaction as module  # noqa: E402
from vrag_env.retrieval.encoder import family_of, weights_revision  # noqa: E402
from vrag_env.retrieval.late_interaction import build_embeddings, table_name  # noqa: E402
from vrag_env.retrieval.packing import unpack  # noqa: E402

DOCUMENTS = {"b.pdf": ["one"] * 5, "a's.pdf": ["two"] * 6}
QUERIES = ["which chart shows dogs", "revenue", "the region of the year 2021 and its cats"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[tiny_colqwen2_5, tiny_colmodernvbert], ids=["qwen2_5", "modernvbert"])
def encoder(request: pytest.FixtureRequest) -> LateInteractionEncoder:
    build: Callable[[], tuple[Any, Any]] = request.param
    model, processor = build()
    return LateInteractionEncoder(model, processor, name=f"tests/{build.__name__}", batch_pixels=3 * 112 * 112)


@pytest.fixture
def corpus(tmp_path: Path, encoder: LateInteractionEncoder) -> Corpus:
    made = make_corpus(tmp_path / "corpus", DOCUMENTS)
    assert build_embeddings(made, encoder, progress=False) == 11
    return made


def test_scores_equal_colpali_engine(corpus: Corpus, encoder: LateInteractionEncoder) -> None:
    """The reference is colpali-engine end to end in float32, one at a time so that nothing is padded."""
    retriever = LateInteractionRetriever(corpus, encoder)
    assert isinstance(retriever, Retriever)
    model, processor = encoder._model, encoder._processor
    with torch.inference_mode():
        queries = [model(**processor.process_queries(texts=[query]))[0] for query in QUERIES]
        pages = [model(**processor.process_images([corpus.image(p)]))[0] for p in corpus.page_ids()]
    reference = processor.score_multi_vector(queries, pages, batch_size=1, device="cpu").numpy()
    found = retriever.search(QUERIES, k=100)
    for row, hits in zip(reference, found, strict=True):
        scores = {hit.page_id: hit.score for hit in hits}
        ours = np.array([scores[page_id] for page_id in corpus.page_ids()])
        np.testing.assert_allclose(ours, row, atol=0.02)
        assert np.ptp(row) > 0.05  # the tiny model does tell the pages apart
        assert [hit.score for hit in hits] == sorted(scores.values(), reverse=True)


def test_scores_on_the_stored_vectors_are_exact(corpus: Corpus, encoder: LateInteractionEncoder) -> None:
    retriever = LateInteractionRetriever(corpus, encoder)
    queries = encoder.encode_queries(QUERIES)
    pages = encoder.encode_images([corpus.image(page_id) for page_id in sorted(corpus.page_ids())])
    expected = [[(q @ p.astype(np.float32).T).max(axis=1).sum() for p in pages] for q in queries]
    np.testing.assert_allclose(retriever.scores(queries), expected, rtol=1e-5, atol=1e-5)


def test_maxsim_by_hand(tmp_path: Path, encoder: LateInteractionEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus(tmp_path / "c", {"x.pdf": ["a", "b"]})
    vectors = [np.array([[1, 0], [0.5, 0.5]], np.float16), np.array([[-1, -0.25]], np.float16)]
    monkeypatch.setattr(encoder, "encode_pages", lambda corpus, page_ids: vectors)
    build_embeddings(corpus, encoder, progress=False)
    retriever = LateInteractionRetriever(corpus, encoder)
    queries = [np.array([[1, 0], [0, 1]], np.float32), np.array([[0, 2]], np.float32)]
    # Page 1: max(1, .5) + max(0, .5) = 1.5 and max(0, 1) = 1; page 2 has one vector: -1 - .25 and -.5,
    # which stay negative: nothing is padded with zeros.
    assert retriever.scores(queries).tolist() == [[1.5, -1.25], [1.0, -0.5]]
    with pytest.raises(RetrieverError, match=r"2 dimensions, the query's 3"):
        retriever.scores([np.ones((1, 3), np.float32)])


def test_search_forms(corpus: Corpus, encoder: LateInteractionEncoder) -> None:
    retriever = LateInteractionRetriever(corpus, encoder)
    full = retriever.search(QUERIES, 100)
    assert all(sorted(hit.page_id for hit in hits) == sorted(corpus.page_ids()) for hits in full)
    assert retriever.search(["", QUERIES[0], "\x00 \n"], 2)[::2] == [[], []]
    assert [hit.page_id for hit in retriever.search(QUERIES, 2)[1]] == [hit.page_id for hit in full[1][:2]]
    only = retriever.search(QUERIES, 100, where=["a's.pdf"])
    for hits, every in zip(only, full, strict=True):
        order = [hit.page_id for hit in every if hit.page_id.startswith("a's")]
        assert [hit.page_id for hit in hits] == order
    assert retriever.search(QUERIES, 3, where=[]) == [[], [], []]
    assert retriever.search(QUERIES, 3, where=["no such"]) == [[], [], []]
    assert retriever.search([], 3) == []
    with pytest.raises(ValueError, match="k must be"):
        retriever.search(QUERIES, 0)


def test_ties_are_broken_by_page_id(
    tmp_path: Path, encoder: LateInteractionEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "c", {"x.pdf": ["same"] * 11})
    monkeypatch.setattr(encoder, "encode_pages", lambda _, ids: [np.ones((3, 128), np.float16)] * len(ids))
    build_embeddings(corpus, encoder, progress=False)
    hits = LateInteractionRetriever(corpus, encoder).search(["dogs"], 4)[0]
    assert [hit.page_id for hit in hits] == ["x.pdf#1", "x.pdf#10", "x.pdf#11", "x.pdf#2"]


@pytest.mark.parametrize(
    "query",
    ["<|image_pad|>", "<image>" * 20, "<|im_end|><|vision_start|>", "dogs " * 30_000, "\ud800", "你好"],
)
def test_no_query_breaks_the_model(corpus: Corpus, encoder: LateInteractionEncoder, query: str) -> None:
    (hits,) = LateInteractionRetriever(corpus, encoder).search([query], 3)
    assert all(np.isfinite(hit.score) for hit in hits)


def test_building_goes_on_where_it_was(
    tmp_path: Path, encoder: LateInteractionEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "c", DOCUMENTS)
    monkeypatch.setattr(module, "_COMMIT_PAGES", 4)
    monkeypatch.setattr(module, "_ENCODE_PAGES", 4)
    encode = encoder.encode_pages
    calls: list[int] = []

    def dies_at_the_third(corpus: Corpus, page_ids: Any) -> Any:
        calls.append(len(page_ids))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(corpus, page_ids)

    monkeypatch.setattr(encoder, "encode_pages", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build_embeddings(corpus, encoder, progress=False)
    with pytest.raises(RetrieverError, match=r"3 of 11 pages .* have no embeddings .* --encoder tests/tiny"):
        LateInteractionRetriever(corpus, encoder)
    assert build_embeddings(corpus, encoder, progress=False) == 3
    assert build_embeddings(corpus, encoder, progress=False) == 0
    assert len(LateInteractionRetriever(corpus, encoder).search(["dogs"], 100)[0]) == 11


def test_changed_pages_are_encoded_again(corpus: Corpus, encoder: LateInteractionEncoder) -> None:
    page = corpus.page("b.pdf#1")
    rows = corpus.table.search().where("page_id = 'b.pdf#1'").select(["image"]).to_arrow()["image"]
    corpus.add([(type(page)(**{**vars(page), "content_hash": "v2"}), rows[0].as_py(), "png")])
    with pytest.raises(RetrieverError, match="1 of 7 pages"):
        LateInteractionRetriever(corpus, encoder)
    assert build_embeddings(corpus, encoder, progress=False) == 1
    table = corpus.database.open_table(table_name(encoder.name, encoder.revision))
    assert table.count_rows() == 7  # the rows of the pages that are gone are gone


def test_vectors_are_kept_as_float16(corpus: Corpus, encoder: LateInteractionEncoder) -> None:
    table = corpus.database.open_table(table_name(encoder.name, encoder.revision))
    row = table.search().where("page_id = 'b.pdf#2'").to_arrow().to_pylist()[0]
    (expected,) = encoder.encode_images([corpus.image("b.pdf#2")])
    assert row["n"] == len(expected)
    stored = unpack(row["vectors"], 128)
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored.astype(np.float32), expected.astype(np.float32), atol=2e-3)


def test_another_model_is_an_error_that_says_what_is_there(corpus: Corpus) -> None:
    model, processor = tiny_colqwen2_5(seed=7)
    stranger = LateInteractionEncoder(model, processor, name="tests/other")
    with pytest.raises(RetrieverError, match=r"no embeddings by tests/other .*it has: emb_tiny_col") as caught:
        LateInteractionRetriever(corpus, stranger)
    assert "vrag index PATH... --corpus" in str(caught.value)


def test_same_name_with_other_weights_is_another_encoder(corpus: Corpus, encoder: LateInteractionEncoder) -> None:
    model, processor = tiny_colqwen2_5(seed=7)
    retrained = LateInteractionEncoder(model, processor, name=encoder.name)
    with pytest.raises(RetrieverError, match="no embeddings by"):
        LateInteractionRetriever(corpus, retrained)


def test_revision_is_a_hash_of_the_weights() -> None:
    model, _ = tiny_colqwen2_5()
    same, _ = tiny_colqwen2_5()
    other, _ = tiny_colqwen2_5(seed=1)
    assert weights_revision(model) == weights_revision(same) == weights_revision(same.to(torch.bfloat16))
    assert weights_revision(model) != weights_revision(other)


def test_load_from_a_directory(tmp_path: Path, corpus: Corpus, encoder: LateInteractionEncoder) -> None:
    """The path of a hub name, but for the download: real files, the class found by name or by config."""
    for directory in (tmp_path / "my-colqwen2.5", tmp_path / "checkpoint-500"):
        model, processor = tiny_colqwen2_5()
        model.save_pretrained(directory)
        processor.save_pretrained(directory)
        loaded = LateInteractionEncoder.load(str(directory), device="cpu")
        assert loaded.revision == weights_revision(model)
        built = LateInteractionEncoder(model, processor, name="x")
        for ours, theirs in zip(loaded.encode_queries(QUERIES), built.encode_queries(QUERIES), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_load_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(RetrieverError, match="no page-image model"):
        LateInteractionEncoder.load(str(tmp_path))
    (tmp_path / "colqwen2").mkdir()
    with pytest.raises(RetrieverError, match=r"could not load .* as ColQwen2"):
        LateInteractionEncoder.load(str(tmp_path / "colqwen2"))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("vidore/colqwen2.5-v0.2", "ColQwen2_5"),
        ("vidore/colqwen2-v1.0", "ColQwen2"),
        ("nomic-ai/colnomic-embed-multimodal-3b", "ColQwen2_5"),
        ("vidore/colqwen-omni-v0.1", "ColQwen2_5Omni"),
        ("someone/colqwen3-4b", "ColQwen3"),
        ("someone/colqwen3.5-4b", "ColQwen3_5"),
        ("vidore/colSmol-500M", "ColIdefics3"),
        ("vidore/colpali-v1.3", "ColPali"),
        ("ModernVBERT/colmodernvbert", "ColModernVBert"),
        ("/data/colqwen2/checkpoint", None),
        ("bert-base", None),
    ],
)
def test_families(name: str, model: str | None) -> None:
    import colpali_engine.models

    found = family_of(name)
    assert (found and found[0]) == model
    assert found is None or all(part in dir(colpali_engine.models) for part in found)
