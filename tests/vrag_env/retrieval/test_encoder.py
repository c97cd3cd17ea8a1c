from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from retrieval_pages import make_corpus

from vrag_env.retrieval.encoder import ALIASES, Encoder, LateInteractionEncoder, family_of, pixel_batches
from vrag_env.retrieval.maxsim import Queries, exact_scores

torch = pytest.importorskip("torch")
models = pytest.importorskip("colpali_engine.models")

import tiny_encoders  # noqa: E402 (needs both)

QUERIES = ["dogs", "which chart shows the revenue of the region by year", "cats"]
ALL = ["colqwen2", "colqwen2_5", "colmodernvbert", "colidefics3", "colpali", "biqwen2_5", "bimodernvbert"]


@pytest.fixture(scope="module", params=ALL)
def parts(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    build: Callable[[], tuple[Any, Any]] = getattr(tiny_encoders, f"tiny_{request.param}")
    return build()


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = ((4, 3), (2, 5), (6, 6), (4, 3), (1, 2))
    blocks = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
    return [Image.fromarray(np.kron(block, np.ones((28, 28, 1), dtype=np.uint8))) for block in blocks]


def exported() -> list[str]:
    """Retrieval models that colpali-engine exports: every class but the processors."""
    return [name for name, value in vars(models).items() if inspect.isclass(value) and "Processor" not in name]


def test_every_model_of_colpali_engine_has_its_classes() -> None:
    assert len(exported()) >= 18
    for name in exported():
        classes = family_of(name)
        assert classes is not None and classes[0] == name, name
        assert inspect.isclass(getattr(models, classes[1])), classes


def test_every_processor_is_used() -> None:
    processors = {name for name, value in vars(models).items() if inspect.isclass(value) and "Processor" in name}
    assert {family_of(name)[1] for name in exported()} == processors  # type: ignore[index]  # each has one, see above


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("vidore/biqwen2-v0.1", "BiQwen2"),
        ("nomic-ai/nomic-embed-multimodal-3b", "BiQwen2_5"),
        ("nomic-ai/colnomic-embed-multimodal-7b", "ColQwen2_5"),
        ("ModernVBERT/bimodernvbert", "BiModernVBert"),
        ("vidore/bipali", "BiPali"),
        ("/models/mobi-qwen2", None),
        ("/models/mobiqwen2", None),
        ("Qwen/Qwen2-VL-2B-Instruct", None),
        ("google/paligemma-3b", None),
    ],
)
def test_names_of_models(name: str, model: str | None) -> None:
    found = family_of(name)
    assert (found and found[0]) == model


def test_aliases_have_a_class() -> None:
    assert all(family_of(name) is not None for name in ALIASES.values())


def test_pages_do_not_depend_on_the_batch(parts: tuple[Any, Any]) -> None:
    images = pictures()
    alone, together, default = (
        LateInteractionEncoder(*parts, name="x", **options).encode_images(images)
        for options in ({"batch_pixels": 1}, {"batch_pixels": 10**9}, {})
    )
    for page, other, third in zip(alone, together, default, strict=True):
        assert page.dtype == np.float16 and page.shape == other.shape == third.shape
        np.testing.assert_allclose(page.astype(np.float32), other.astype(np.float32), atol=5e-4)
        np.testing.assert_allclose(np.linalg.norm(page.astype(np.float32), axis=1), 1, atol=2e-3)
    ends = [alone[place].astype(np.float32)[-5:] for place in (0, 2)]  # a causal model has seen all by then
    assert np.abs(ends[0] - ends[1]).max() > 0.01  # the model sees


def test_queries_do_not_depend_on_the_batch(parts: tuple[Any, Any], request: pytest.FixtureRequest) -> None:
    if type(parts[0]).__name__ == "ColPali":
        reason = "a ColPali query changes with the padding that longer queries beside it bring"
        request.applymarker(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True))
    encoder = LateInteractionEncoder(*parts, name="x")
    for query, vectors in zip(QUERIES, encoder.encode_queries(QUERIES), strict=True):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(encoder.encode_queries([query])[0], vectors, atol=1e-5)
    assert encoder.encode_queries([]) == []


def test_equals_the_model_itself(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    image = pictures()[1]
    with torch.inference_mode():
        expected = model(**processor.process_images([image]))[0]
    (page,) = LateInteractionEncoder(model, processor, name="x").encode_images([image])
    np.testing.assert_allclose(page.astype(np.float32), np.atleast_2d(expected.numpy()), atol=1e-3)


def test_scores_are_those_of_score_multi_vector(parts: tuple[Any, Any]) -> None:
    encoder = LateInteractionEncoder(*parts, name="x")
    pages, queries = encoder.encode_images(pictures()), encoder.encode_queries(QUERIES)
    tensors = [[torch.from_numpy(vectors.astype(np.float32)) for vectors in group] for group in (queries, pages)]
    expected = [[float((query @ page.T).amax(dim=1).sum()) for page in tensors[1]] for query in tensors[0]]
    scores = exact_scores(Queries(queries), pages, np.ones((len(queries), len(pages)), dtype=bool))
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    theirs = parts[1].score_multi_vector(*tensors, device="cpu").numpy()
    if all((query @ page.T).amax(dim=1).min() >= 0 for query in tensors[0] for page in tensors[1]):
        np.testing.assert_allclose(scores, theirs, atol=1e-4)
    else:  # it pads pages with zeros, which lift a negative maximum
        assert (theirs >= scores - 1e-4).all()


def test_pages_of_a_corpus_are_its_pictures_in_order(tmp_path: Path, parts: tuple[Any, Any]) -> None:
    corpus = make_corpus(tmp_path / "c", {"a.pdf": [""] * 4})
    encoder = LateInteractionEncoder(*parts, name="x", batch_pixels=2 * 112 * 112)
    assert isinstance(encoder, Encoder)
    ids = list(corpus.page_ids())[::-1]
    images = encoder.encode_images([corpus.image(page_id) for page_id in ids])
    for ours, expected in zip(encoder.encode_pages(corpus, ids), images, strict=True):
        assert (ours == expected).all()
    assert encoder.encode_pages(corpus, []) == []


def test_a_broken_picture_is_reported(tmp_path: Path, parts: tuple[Any, Any]) -> None:
    """An error in the thread that reads ahead reaches the caller."""
    encoder = LateInteractionEncoder(*parts, name="x", batch_pixels=1)
    corpus = make_corpus(tmp_path / "c", {"a.pdf": [""] * 3})
    with pytest.raises(ValueError, match=r"no page 'a\.pdf#9'"):
        encoder.encode_pages(corpus, ["a.pdf#1", "a.pdf#9"])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=30), st.integers(1, 5000))
def test_batches_by_pixels(sizes: list[tuple[int, int]], budget: int) -> None:
    batches = list(pixel_batches(sizes, budget))
    pixels = [[sizes[index][0] * sizes[index][1] for index in batch] for batch in batches]
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    assert all(len(batch) == 1 or max(batch) * len(batch) <= budget for batch in pixels)
    flat = [count for batch in pixels for count in batch]
    assert flat == sorted(flat, reverse=True)
    for batch, following in pairwise(pixels):
        assert batch[0] * (len(batch) + 1) > budget, following  # another would not have fitted


def test_bad_batch_pixels(parts: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="batch_pixels must be at least 1"):
        LateInteractionEncoder(*parts, name="x", batch_pixels=0)
