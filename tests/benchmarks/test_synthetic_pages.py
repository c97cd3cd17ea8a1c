"""Generated pages have the statistics that they claim, and can be made again."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_pages import PAGES_PER_DOCUMENT, QUERY_VECTORS, QueryKind, SyntheticPages

COUNT = 2 * PAGES_PER_DOCUMENT


@pytest.fixture(scope="module")
def pages() -> SyntheticPages:
    return SyntheticPages(seed=0)


@pytest.fixture(scope="module")
def vectors(pages: SyntheticPages) -> list[np.ndarray]:
    return [pages.page(number).astype(np.float32) for number in range(COUNT)]


def mean_cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first.mean(axis=0) @ second.mean(axis=0))


def test_every_page_can_be_made_again_by_anyone(pages: SyntheticPages) -> None:
    batches = [page for batch in pages.batches(5, size=2, start=3) for page in batch]
    assert [page.tobytes() for page in batches] == [SyntheticPages(0).page(number).tobytes() for number in range(3, 8)]
    assert SyntheticPages(1).page(3).tobytes() != batches[0].tobytes()


def test_names_sort_as_numbers(pages: SyntheticPages) -> None:
    names = [pages.page_id(number) for number in (0, 9, 19, 20, 199, 2_000, 1_000_000)]
    assert names == sorted(names)
    assert pages.document(19) != pages.document(20)


def test_size_length_and_precision(vectors: list[np.ndarray]) -> None:
    assert 680 < np.mean([len(page) for page in vectors]) < 720
    assert {page.shape[1] for page in vectors} == {128}
    lengths = np.concatenate([np.linalg.norm(page, axis=1) for page in vectors])
    assert np.abs(lengths - 1).max() < 0.01
    large = np.concatenate(vectors)
    large = large[np.abs(large) > 2**-13]  # below, float16 has fewer bits than bfloat16
    assert not (large.view(np.uint32) & 0xFFFF).any()  # bfloat16: the lower half of a float32 is empty


def test_cosines_are_those_of_real_pages(vectors: list[np.ndarray]) -> None:
    within = np.mean([mean_cosine(page, page) for page in vectors])
    same = np.mean([mean_cosine(vectors[0], page) for page in vectors[1:PAGES_PER_DOCUMENT]])
    other = np.mean([mean_cosine(vectors[0], page) for page in vectors[PAGES_PER_DOCUMENT:]])
    assert 0.40 < within < 0.50
    assert within > same > other > 0.2


def test_the_raster_is_smooth_with_near_duplicates(pages: SyntheticPages, vectors: list[np.ndarray]) -> None:
    neighbours = [np.einsum("ij,ij->i", page[4:-11], page[5:-10]).mean() for page in vectors]
    assert np.mean(neighbours) > 0.7
    duplicates = [((page @ page.T) > 0.9).mean() for page in vectors[:5]]
    assert np.mean(duplicates) > 0.03  # more than a twentieth of a page are copies of one another
    assert all(30 <= len(pages.centres(number)) <= 60 for number in range(COUNT))


def test_prompt_vectors_are_the_same_on_all_pages(vectors: list[np.ndarray]) -> None:
    assert min(float(page[0] @ vectors[0][0]) for page in vectors) > 0.9
    assert min(float(page[-1] @ vectors[0][-1]) for page in vectors) > 0.9


def test_pooled_vectors_stand_for_the_page(pages: SyntheticPages, vectors: list[np.ndarray]) -> None:
    pooled = pages.pooled(0, 16).astype(np.float32)
    assert pooled.shape == (16, 128)
    own, other = (float((page[4:-10] @ pooled.T).max(axis=1).mean()) for page in (vectors[0], vectors[-1]))
    assert own > other + 0.1


@pytest.mark.parametrize(("kind", "margin"), [("easy", 3.0), ("hard", 1.0)])
def test_queries_are_about_their_page(
    pages: SyntheticPages, vectors: list[np.ndarray], kind: QueryKind, margin: float
) -> None:
    queries, targets = pages.queries(kind, 6, COUNT)
    for query, target in zip(queries, targets, strict=True):
        assert query.shape == (QUERY_VECTORS, 128)
        scores = np.array([(query @ page.T).max(axis=1).sum() for page in vectors])
        assert scores.argmax() == target
        assert scores[target] - np.sort(scores)[-2] > margin
