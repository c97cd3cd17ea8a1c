from __future__ import annotations

from pathlib import Path

import lancedb
import numpy as np
import pytest
from vector_pages import make_pages, make_table

from vrag_env.errors import RetrieverError
from vrag_env.retrieval.embeddings import (
    EmbeddingTable,
    PageVectors,
    record_batch,
    table_name,
    write_embeddings,
    write_stats,
)
from vrag_env.retrieval.pooling import pool_page, quantise


def test_names() -> None:
    assert table_name("vidore/ColQwen2.5-v0.2", "1A2b") == "emb_colqwen2_5_v0_2_1a2b"
    assert table_name("/models/x/", "main", pool_factor=3) == "emb_x_main_pool3"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pages = make_pages(250)
    table = make_table(tmp_path, pages)
    assert (len(table), table.dim, table.pooled_vectors, table.encoder) == (250, 32, 8, "m")
    assert table.page_ids[:2] == ["p00000", "p00001"] and table.documents[9:11].tolist() == ["d0", "d1"]
    assert table.counts.tolist() == [len(page) for page in pages]
    assert table.nbytes == sum(page.nbytes for page in pages)
    for rows in ([7], [249, 0, 33, 33 + 1], list(range(250))[::-1], []):
        for page, row in zip(table.take(np.array(rows, dtype=int)), rows, strict=True):
            assert page.dtype == np.float16 and (page == pages[row]).all() and page.flags.writeable
    vectors, starts = table.read(np.arange(3, 203))
    assert (vectors == np.concatenate(pages[3:203])).all() and starts[1] == len(pages[3]) and len(starts) == 201
    codes, scales = table.pooled()
    for row in (0, 100, 249):
        expected, scale = quantise(pool_page(pages[row], 8))
        assert (codes[row] == expected).all() and scales[row] == pytest.approx(scale)
    longest = [np.linalg.norm(page.astype(np.float64), axis=1).max() for page in pages]
    assert (table.norms >= longest).all() and (table.norms <= np.array(longest) * 1.001).all()


def test_pages_are_sorted_whatever_the_order_of_writing(tmp_path: Path) -> None:
    pages = make_pages(5)
    rows = [PageVectors(name, name[0], "v1", page) for name, page in zip("ecadb", pages, strict=True)]
    database = lancedb.connect(tmp_path)
    table = EmbeddingTable.open(database, write_embeddings(database, "m", "r", [rows[:2], rows[2:]]))
    assert table.page_ids == list("abcde")
    assert all((table.take(np.array([i]))[0] == pages["ecadb".index(n)]).all() for i, n in enumerate("abcde"))
    codes, scales = table.pooled()
    expected, scale = quantise(pool_page(pages[0], table.pooled_vectors))  # that of "e"
    assert (codes[4] == expected).all() and scales[4] == pytest.approx(scale)


def test_only_pages_with_the_content_asked_for(tmp_path: Path) -> None:
    pages = make_pages(4)
    make_table(tmp_path, pages)
    database = lancedb.connect(tmp_path)
    keep = {"p00000": "v1", "p00002": "v1", "p00003": "v2", "p00009": "v1"}
    table = EmbeddingTable.open(database, "emb_m_r", keep)
    assert table.page_ids == ["p00000", "p00002"]
    assert (table.take(np.array([1]))[0] == pages[2]).all()
    assert (table.pooled()[0][1] == quantise(pool_page(pages[2], 8))[0]).all()
    empty = EmbeddingTable.open(database, "emb_m_r", {})
    assert len(empty) == 0 and empty.pooled()[0].shape == (0, 8, 32) and empty.take(np.arange(0)) == []


def test_a_table_stays_as_it_was_opened(tmp_path: Path) -> None:
    pages = make_pages(30)
    table = make_table(tmp_path, pages)
    other = lancedb.connect(tmp_path).open_table("emb_m_r")
    other.delete("page_id < 'p00020'")
    other.add(other.to_arrow())  # every page twice
    write_stats(other, {"candidates": 3})
    assert (table.take(np.array([5]))[0] == pages[5]).all() and table.pooled()[0].shape[0] == 30
    assert table.stats == {}
    again = EmbeddingTable.open(lancedb.connect(tmp_path), "emb_m_r")
    assert again.page_ids == [f"p{i:05d}" for i in range(20, 30)] and again.stats == {"candidates": 3}
    assert (again.take(np.array([1]))[0] == pages[21]).all() and again.version > table.version


def test_documents(tmp_path: Path) -> None:
    table = make_table(tmp_path, make_pages(25))
    assert table.rows_of({"d2", "d0", "no such"}).tolist() == [*range(10), *range(20, 25)]
    assert table.rows_of([]).tolist() == [] and table.rows_of({"x"}).tolist() == []


def test_size_on_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(0, 0.088, (40, 700, 128)).astype(np.float32)
    pages = list((wide.view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float16))  # bfloat16, as models give it
    make_table(tmp_path, pages, pooled_vectors=32)
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert size < 0.75 * 40 * 700 * 128 * 2


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.array([[1, np.nan]], np.float16), r"'bad' vectors with values that are not finite"),
        (np.array([[1, np.inf]], np.float16), r"'bad' vectors with values that are not finite"),
        (np.zeros((3, 2), np.float16), r"'bad' only vectors of length 0"),
        (np.zeros((0, 2), np.float16), r"'bad' vectors of shape \(0, 2\), expected \(n, 2\)"),
        (np.ones((3, 4), np.float16), r"'bad' vectors of shape \(3, 4\), expected \(n, 2\)"),
    ],
)
def test_bad_vectors_are_an_error_that_names_the_page(vectors: np.ndarray, message: str) -> None:
    good = PageVectors("good", "d", "v", np.array([[0, 0], [0.5, 0.5]], np.float16))  # one zero vector is no fault
    assert record_batch("m", [good]).num_rows == 1
    with pytest.raises(RetrieverError, match=message):
        record_batch("m", [good, PageVectors("bad", "d", "v", vectors)])


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(RetrieverError, match="no pages to write"):
        write_embeddings(lancedb.connect(tmp_path), "m", "r", [[]])
