"""Pictures of views: kept or not, drawn alone or together, the pixels are the same."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vrag_env.corpus import Corpus
from vrag_env.episode import Image as Block
from vrag_env.errors import CorpusError
from vrag_env.pictures import draw, draw_all, pixels
from vrag_env.views import FULL_PAGE, View, cut

PAGE = View(1, "finance/amber.pdf#1", FULL_PAGE, None, (728, 532))
CROP = View(2, "finance/amber.pdf#1", (0.1, 0.2, 0.8, 0.5), 1, (644, 308))


@pytest.fixture
def fresh(tiny_corpus: Corpus) -> Corpus:
    """The corpus with nothing kept."""
    return Corpus.open(tiny_corpus.path, tiny_corpus.version)


@pytest.mark.parametrize("view", [PAGE, CROP])
def test_one_rule(fresh: Corpus, view: View) -> None:
    expected = cut(fresh.image(view.page_id), view.box, view.size)
    first, second = draw(fresh, view), draw(fresh, view)
    assert first.mode == "RGB" and first.size == view.size
    assert first.tobytes() == second.tobytes() == expected.tobytes()
    first.paste((0, 0, 0), (0, 0, *view.size))  # the caller's own: nobody else sees it
    assert draw(fresh, view).tobytes() == pixels(fresh, view).tobytes() == expected.tobytes()
    assert not pixels(fresh, view).flags.writeable


def test_blocks_do_not_share_what_can_be_drawn_on(fresh: Corpus) -> None:
    one, two = (Block(pixels(fresh, PAGE), PAGE) for _ in range(2))
    assert one == two and one.image is one.image is not two.image
    one.image.paste((0, 0, 0), (0, 0, 100, 100))
    assert np.array_equal(two.image, pixels(fresh, PAGE)) and one == two
    assert Block(draw(fresh, PAGE), PAGE) == one != Block(pixels(fresh, CROP), CROP)  # a PIL image will do


def test_whole_pages_are_kept_by_size(fresh: Corpus) -> None:
    draw(fresh, PAGE)
    draw(fresh, CROP)
    assert len(fresh.shown) == 1
    small = View(1, PAGE.page_id, FULL_PAGE, None, (364, 266))
    assert draw(fresh, small).size == (364, 266)
    assert len(fresh.shown) == 2


def test_pages_that_change_are_not_kept(tmp_path: Any, tiny_corpus: Corpus) -> None:
    from vrag_env.corpus import ingest

    def page(shade: int) -> bytes:
        Image.new("RGB", (400, 300), (shade, 0, 0)).save(tmp_path / "a.png")
        ingest([tmp_path / "a.png"], corpus, workers=1, progress=False)
        return draw(corpus, View(1, "a.png#1", FULL_PAGE, None, (112, 84))).getpixel((50, 50))

    corpus = Corpus.create(tmp_path / "corpus")
    assert (page(200), page(100)) == ((200, 0, 0), (100, 0, 0))


def test_together_as_alone(fresh: Corpus, tiny_corpus: Corpus) -> None:
    views = [
        View(1, page_id, box, None, (336, 252))
        for page_id in fresh.page_ids()
        for box in (FULL_PAGE, (0.05, 0.1, 0.9, 0.7), FULL_PAGE)
    ]
    together = draw_all([partial(pixels, fresh, view) for view in views])
    alone = [pixels(tiny_corpus, view) for view in views]
    assert [image.tobytes() for image in together] == [image.tobytes() for image in alone]
    assert draw_all([]) == []


def test_several_threads_and_an_error(fresh: Corpus) -> None:
    names: set[str] = set()

    def job() -> np.ndarray:
        names.add(threading.current_thread().name)
        return pixels(fresh, CROP)

    with ThreadPoolExecutor(4) as pool:  # callers of several threads at once
        results = list(pool.map(lambda _: draw_all([job] * 6), range(8)))
    assert len({image.tobytes() for images in results for image in images}) == 1
    assert all(name.startswith("vrag-draw") for name in names)
    with pytest.raises(CorpusError, match="no page"):
        draw_all([job, partial(pixels, fresh, View(1, "nowhere#1", FULL_PAGE, None, (28, 28)))])
