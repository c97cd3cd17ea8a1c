"""The rules of an episode, one by one, on a real corpus with the real retriever and reward."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.actions import Answer, Crop, Invalid, Search
from vrag_env.episode import Episode, EpisodeConfig, Image, StepResult, Text, step_many
from vrag_env.retrieval import Hit
from vrag_env.views import FULL_PAGE, PixelBudget

AMBER, COBALT, IVORY = "finance/amber.pdf", "finance/cobalt.pdf", "travel/ivory.pdf"
SHOWN = (728, 532)
MakeEpisode = Callable[..., Episode]


def search(query: str) -> str:
    return f"<think>I look.</think><search>{query}</search>"


def crop(*box: float) -> str:
    return f"<think>I zoom in.</think><bbox>[{', '.join(map(str, box))}]</bbox>"


def answer(text: str) -> str:
    return f"<think>I know.</think><answer>{text}</answer>"


def images(result: StepResult) -> list[Image]:
    return [block for block in result.blocks if isinstance(block, Image)]


def text(result: StepResult) -> str:
    return "\n".join(block.text for block in result.blocks if isinstance(block, Text))


def pixels(image: Image) -> np.ndarray:
    return np.asarray(image.image)


# ---------------------------------------------------------------------- the course of an episode


def test_a_whole_episode(make_episode: MakeEpisode) -> None:
    episode = make_episode("amber-revenue")
    found = episode.step_text(search("Amber Falcon revenue ambrosia"))
    assert images(found)[0].view.page_id == f"{AMBER}#1"
    assert images(found)[0].view.box == FULL_PAGE
    assert images(found)[0].image.size == images(found)[0].view.size == SHOWN
    assert text(found) == "Image 1: 728 x 532."
    assert (found.reward, found.terminated, found.truncated) == (0.0, False, False)

    zoomed = episode.step_text(crop(73, 133, 655, 186))
    view = images(zoomed)[0].view
    assert (view.view_id, view.parent_id, view.page_id) == (2, 1, f"{AMBER}#1")
    np.testing.assert_allclose(view.box, (73 / 728, 133 / 532, 655 / 728, 186 / 532))

    ended = episode.step_text(answer("42.5"))
    assert ended.blocks == ()
    assert (ended.terminated, ended.truncated) == (True, False)
    # 0.2 * NDCG 1 + 0.7 * right + 0.1 * all turns valid
    assert ended.reward == pytest.approx(1.0)
    assert ended.info["reward_terms"]["retrieval"] == 1.0
    assert ended.info["is_success"] is True
    assert ended.info["turns_left"] == 0
    assert episode.answer == "42.5"


def test_the_reward_follows_the_weights(make_episode: MakeEpisode) -> None:
    episode = make_episode("amber-revenue")
    episode.step_text(search("Cobalt Heron cinnamon"))  # a wrong page first
    episode.step_text(search("Amber Falcon ambrosia"))
    episode.step_text("not a turn")
    ended = episode.step_text(answer("99"))
    # NDCG with the only gold page in second place: (1 / log2 3) / 1; three of four turns are valid.
    assert ended.info["reward_terms"]["retrieval"] == pytest.approx(1 / np.log2(3))
    assert ended.reward == pytest.approx(0.2 / np.log2(3) + 0.1 * 0.75)
    assert ended.info["is_success"] is False


def test_the_question_comes_first(make_episode: MakeEpisode) -> None:
    episode = make_episode("cobalt-staff")
    episode.step_text(search("dolphin"))
    result = episode.start()
    assert result.blocks == (Text("Question: How many people does Cobalt Heron employ?"),)
    assert (result.reward, result.terminated, result.truncated) == (0.0, False, False)
    assert (episode.turns, episode.views, episode.view) == ((), (), None)
    assert "<search>" in episode.instructions


def test_an_ended_episode_takes_no_turn(make_episode: MakeEpisode) -> None:
    episode = make_episode()
    episode.step_text(answer("1"))
    with pytest.raises(RuntimeError, match="has ended"):
        episode.step_text(answer("2"))
    assert len(episode.turns) == 1
    episode.start()
    assert episode.step_text(answer("2")).terminated


def test_execute_needs_a_turn(make_episode: MakeEpisode) -> None:
    with pytest.raises(RuntimeError, match="begin"):
        make_episode().execute()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"max_turns": 0}, "max_turns"),
        ({"pages_per_search": 0}, "pages_per_search"),
        ({"box_frame": "percent"}, "box_frame"),
        ({"episode_pixels": 100}, "episode_pixels"),
    ],
)
def test_rules_that_make_no_sense(config: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EpisodeConfig(**config)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- search


def test_a_search_shows_the_best_page_not_shown_yet(make_episode: MakeEpisode) -> None:
    episode = make_episode(max_turns=20)
    ranking = [hit.page_id for hit in episode.retriever.search(["report"], 8)[0]]
    assert len(set(ranking)) == 8
    shown = [images(episode.step_text(search("report")))[0].view.page_id for _ in range(8)]
    assert shown == ranking
    none = episode.step_text(search("report"))
    assert images(none) == []
    assert text(none) == "No page that you have not seen yet matches this search."
    assert isinstance(episode.turns[-1].action, Search)  # a search without a result is not invalid
    assert episode.pages_shown == tuple(ranking)


def test_a_page_that_was_shown_is_passed_over_by_any_query(make_episode: MakeEpisode) -> None:
    episode = make_episode()
    episode.step_text(search("ambrosia"))
    again = episode.step_text(search("ambrosia report"))
    assert images(again)[0].view.page_id != f"{AMBER}#1"


def test_a_search_without_a_match(make_episode: MakeEpisode) -> None:
    result = make_episode().step_text(search("zzzzqqqq"))
    assert images(result) == []
    assert "No page" in text(result)


def test_several_pages_per_search(make_episode: MakeEpisode) -> None:
    episode = make_episode(pages_per_search=3)
    first, second = episode.step_text(search("report")), episode.step_text(search("report"))
    assert [image.view.view_id for image in images(first)] == [1, 2, 3]
    assert text(first) == "Image 1: 728 x 532. Image 2: 728 x 532. Image 3: 728 x 532."
    assert len({image.view.page_id for image in images(first) + images(second)}) == 6
    assert episode.view == images(second)[-1].view
    assert len(images(episode.step_text(search("report")))) == 2  # only two are left


# ---------------------------------------------------------------------- crop


def test_a_crop_of_a_crop_reads_the_stored_page(make_episode: MakeEpisode) -> None:
    episode = make_episode()
    episode.step_text(search("ambrosia"))
    episode.step_text(crop(0, 0, 364, 266))  # the upper left quarter
    width, height = episode.views[1].size
    deep = images(episode.step_text(crop(width / 2, height / 2, width, height)))[0]
    np.testing.assert_allclose(deep.view.box, (0.25, 0.25, 0.5, 0.5))
    other = make_episode()
    other.step_text(search("ambrosia"))
    direct = images(other.step_text(crop(182, 133, 364, 266)))[0]
    assert direct.view.box == pytest.approx(deep.view.box)
    assert np.abs(pixels(direct).astype(int) - pixels(deep)).max() <= 1


def test_the_frame_of_boxes_can_be_0_to_1000(make_episode: MakeEpisode) -> None:
    episode = make_episode(box_frame="1000")
    episode.step_text(search("ambrosia"))
    view = images(episode.step_text(crop(100, 250, 900, 350)))[0].view
    np.testing.assert_allclose(view.box, (0.1, 0.25, 0.9, 0.35))
    assert "from 0 to 1000" in episode.instructions


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((10, 10, 5, 20), "inverted"),
        ((800, 10, 900, 20), "outside the image, which is 728 wide and 532 high"),
        ((10, 10, 13, 400), "too small"),
        ((0, 100, 728, 106), "too small|too thin"),
    ],
)
def test_a_bad_box_is_an_invalid_turn(make_episode: MakeEpisode, box, words: str) -> None:
    episode = make_episode()
    episode.step_text(search("ambrosia"))
    result = episode.step_text(crop(*box))
    assert images(result) == []
    assert re.match(rf"Invalid turn: .*({words})", text(result))
    assert isinstance(episode.turns[-1].action, Invalid)
    assert result.info["invalid"] is True
    assert len(episode.views) == 1


def test_a_crop_needs_an_image(make_episode: MakeEpisode) -> None:
    result = make_episode().step_text(crop(0, 0, 50, 50))
    assert text(result) == "Invalid turn: there is no image yet: search for a page first."


# ---------------------------------------------------------------------- invalid turns, the end


def test_an_invalid_turn_costs_a_turn_and_does_nothing(make_episode: MakeEpisode) -> None:
    episode = make_episode()
    before = episode.state_key
    result = episode.step_text("<think>a</think><search>ambrosia</search><answer>42.5</answer>")
    assert images(result) == []
    assert text(result).startswith("Invalid turn: there is text after the action")
    assert (result.terminated, result.info["turn"], result.info["turns_left"]) == (False, 1, 4)
    assert (episode.answer, episode.views) == (None, ())
    assert episode.state_key == before


def test_the_last_turn_is_announced_and_takes_only_an_answer(make_episode: MakeEpisode) -> None:
    notice = "This is your last turn: answer the question now."
    episode = make_episode(max_turns=2)
    assert notice not in text(episode.step_text(search("report")))
    told = episode.step_text(search("report"))
    assert text(told) == f"Image 2: 728 x 532. {notice}"
    assert (told.info["turns_left"], told.truncated, episode.last_turn) == (1, False, True)
    ended = episode.step_text(search("report"))
    assert images(ended) == []
    assert (ended.terminated, ended.truncated) == (False, True)
    assert isinstance(episode.turns[-1].action, Invalid)
    assert episode.turns[-1].hits == ()
    assert len(episode.views) == 2
    assert (episode.answer, ended.info["is_success"], ended.info["turns_left"]) == (None, False, 0)
    assert ended.info["reward_terms"]["answer"] == 0.0


def test_a_search_in_the_last_turn_asks_no_retriever(make_episode: MakeEpisode) -> None:
    episode = make_episode(max_turns=1)
    episode.retriever = counter = CountingRetriever(episode.retriever)
    episode.step_text(search("report"))
    episode.step_text(search("report"))
    assert counter.calls == [["report"]]


@pytest.mark.parametrize("last", [crop(0, 0, 99, 99), "rubbish", "<think>a</think><answer></answer>"])
def test_an_episode_without_an_answer_is_truncated(make_episode: MakeEpisode, last: str) -> None:
    episode = make_episode(max_turns=1)
    episode.step_text(search("report"))
    ended = episode.step_text(last)
    assert (ended.terminated, ended.truncated, episode.answer) == (False, True, None)


def test_an_answer_in_the_last_turn_terminates(make_episode: MakeEpisode) -> None:
    episode = make_episode(max_turns=1)
    episode.step_text(search("ambrosia"))
    ended = episode.step_text(answer("42.5"))
    assert (ended.terminated, ended.truncated, ended.info["is_success"]) == (True, False, True)


def test_not_answerable_is_right_where_nothing_is_there(make_episode: MakeEpisode) -> None:
    episode = make_episode("olive-price")
    episode.step_text(search("Olive Lynx"))
    ended = episode.step_text(answer("Not answerable"))
    assert ended.info["is_success"] is True
    assert ended.info["reward_terms"]["retrieval"] == 1.0 and ended.reward == pytest.approx(1.0)
    other = make_episode("amber-revenue").step_text(answer("Not answerable"))
    assert other.info["is_success"] is False


def test_the_recall_of_the_evidence(make_episode: MakeEpisode) -> None:
    episode = make_episode("north-sum")  # two gold pages
    found = [episode.step_text(search(query)).info["evidence_recall"] for query in ("gondola", "ambrosia", "cinnamon")]
    assert (episode.start().info["evidence_recall"], found) == (0.0, [0.0, 0.5, 1.0])
    assert "evidence_recall" not in make_episode("olive-price").start().info  # there is nothing to find


# ---------------------------------------------------------------------- pixels


def test_the_budget_of_an_episode(make_episode: MakeEpisode) -> None:
    page = SHOWN[0] * SHOWN[1]
    episode = make_episode(episode_pixels=2 * page + 1)
    first = episode.step_text(search("report"))
    assert (first.info["pixels_spent"], first.info["pixels_left"]) == (page, page + 1)
    second = episode.step_text(search("report"))
    assert second.info["pixels_left"] == 1
    third = episode.step_text(search("report"))
    assert images(third) == []
    assert "budget of pixels is used up" in text(third)
    assert (third.info["pixels_spent"], third.info["pixels_left"]) == (2 * page, 1)
    assert "used up" in text(episode.step_text(crop(0, 0, 300, 300)))
    assert make_episode().step_text(search("report")).info["pixels_left"] is None


def test_a_search_shows_as_many_pages_as_the_budget_holds(make_episode: MakeEpisode) -> None:
    page = SHOWN[0] * SHOWN[1]
    episode = make_episode(episode_pixels=2 * page, pages_per_search=3)
    result = episode.step_text(search("report"))
    assert len(images(result)) == 2
    assert result.info["pixels_left"] == 0


def test_images_keep_the_budget_of_an_image(make_episode: MakeEpisode) -> None:
    budget = PixelBudget(min_pixels=16 * 28 * 28, max_pixels=40 * 28 * 28)
    episode = make_episode(pixels=budget)
    for action in (search("ambrosia"), crop(0, 0, 80, 60), crop(0, 0, 140, 20)):
        for image in images(episode.step_text(action)):
            assert budget.min_pixels <= image.image.width * image.image.height <= budget.max_pixels
            assert image.image.width % 28 == image.image.height % 28 == 0
    assert len(episode.views) == 3


# ---------------------------------------------------------------------- many episodes


class CountingRetriever:
    """A retriever that notes the batches it was asked."""

    def __init__(self, retriever) -> None:
        self.retriever = retriever
        self.calls: list[list[str]] = []

    def search(self, queries: Sequence[str], k: int, where=None) -> list[list[Hit]]:
        self.calls.append(list(queries))
        return self.retriever.search(queries, k, where)


SCRIPTS = {
    "amber-revenue": [search("ambrosia"), crop(73, 133, 655, 186), search("report"), answer("42.5")],
    "cobalt-staff": [search("report"), search("report"), "rubbish", search("report"), answer("310")],
    "ivory-origin": [crop(1, 1, 90, 90), search("Ivory Otter"), answer("Spain")],
    "olive-price": [search("Olive"), search("Olive"), search("Olive"), search("Olive"), search("Olive")],
}


def play(episodes: Sequence[Episode], together: bool) -> list[list[StepResult]]:
    results: list[list[StepResult]] = [[] for _ in episodes]
    scripts = [list(SCRIPTS[episode.question.question_id]) for episode in episodes]
    while any(not episode.done for episode in episodes):
        running = [index for index, episode in enumerate(episodes) if not episode.done]
        actions = [scripts[index].pop(0) for index in running]
        if together:
            stepped = step_many([episodes[index] for index in running], actions)
        else:
            stepped = [episodes[index].step_text(a) for index, a in zip(running, actions, strict=True)]
        for index, result in zip(running, stepped, strict=True):
            results[index].append(result)
    return results


def test_stepping_together_equals_one_by_one(make_episode: MakeEpisode) -> None:
    one = play([make_episode(name) for name in SCRIPTS], together=False)
    many = play([make_episode(name) for name in SCRIPTS], together=True)
    for alone, together in zip(one, many, strict=True):
        assert alone == together  # images included: PIL compares pixels


def test_one_call_per_step_for_all(make_episode: MakeEpisode) -> None:
    episodes = [make_episode(name) for name in ("amber-revenue", "cobalt-staff", "ivory-origin")]
    counter = CountingRetriever(episodes[0].retriever)
    reward = episodes[0].reward
    judged: list[int] = []
    for episode in episodes:
        episode.retriever, episode.reward = counter, reward
    original = reward.judge.judge
    reward.judge.judge = lambda items: (judged.append(len(items)), original(items))[1]  # type: ignore[method-assign]
    step_many(episodes, [search("a report"), search("staff"), "rubbish"])
    assert counter.calls == [["a report", "staff"]]
    step_many(episodes, [answer("1"), answer("2"), answer("3")])
    assert counter.calls == [["a report", "staff"]]
    assert judged == [3]


def test_episodes_never_share_pages(make_episode: MakeEpisode) -> None:
    first, second = make_episode(), make_episode()
    first.step_text(search("ambrosia"))
    assert second.views == ()
    assert images(second.step_text(search("ambrosia")))[0].view.page_id == f"{AMBER}#1"
    first.step_text(search("cinnamon"))
    assert second.pages_shown == (f"{AMBER}#1",)
    # A box refers to the episode's own last image.
    assert images(first.step_text(crop(0, 0, 99, 99)))[0].view.page_id == f"{COBALT}#1"
    assert images(second.step_text(crop(0, 0, 99, 99)))[0].view.page_id == f"{AMBER}#1"


def test_drawing_on_a_shown_image_changes_no_other(make_episode: MakeEpisode) -> None:
    episode = make_episode()
    shown = images(episode.step_text(search("ambrosia")))[0]
    before = pixels(shown).copy()
    shown.image.paste((255, 0, 0), (0, 0, *shown.image.size))
    np.testing.assert_array_equal(pixels(Image(episode.image(shown.view), shown.view)), before)


def test_different_rules_in_one_batch(make_episode: MakeEpisode) -> None:
    narrow, wide = make_episode(), make_episode(pages_per_search=4)
    for _ in range(2):
        step_many([narrow, wide], [search("report")] * 2)
    assert (len(narrow.views), len(wide.views)) == (2, 8)
    assert len(narrow.turns[0].hits) == 1  # no more than it would have asked for alone


def test_every_episode_needs_an_action(make_episode: MakeEpisode) -> None:
    with pytest.raises(ValueError, match="zip"):
        step_many([make_episode(), make_episode()], [answer("1")])


# ---------------------------------------------------------------------- state


def test_going_back_to_any_turn_gives_the_same_again(make_episode: MakeEpisode) -> None:
    for name, script in SCRIPTS.items():
        episode = make_episode(name)
        states, results = [episode.state], []
        for action in script:
            results.append(episode.step_text(action))
            states.append(episode.state)
            if episode.done:
                break
        for turn, state in enumerate(states[:-1]):
            episode.state = state
            for action, expected in zip(script[turn:], results[turn:], strict=False):
                assert episode.step_text(action) == expected


def test_the_key_of_a_state(make_episode: MakeEpisode) -> None:
    def key(*actions: str, name: str = "amber-revenue") -> str:
        episode = make_episode(name)
        for action in actions:
            episode.step_text(action)
        return episode.state_key

    a, b = search("ambrosia"), search("cinnamon")
    assert key(a) == key(search("Amber ambrosia"))  # another way to the same place
    assert key(a) != key(b)
    assert key(a) != key()
    assert key(a) != key(a, name="cobalt-staff")
    assert key(a, b) != key(b, a)  # same pages, another current view
    assert key(a, crop(0, 0, 99, 99)) != key(a)
    assert key(a, crop(0, 0, 364, 266)) == key(a, crop(0, 0, 365, 266))  # boxes to a hundredth
    assert key(a, a, a) != key(a, a, a, a)  # the last turn has other rules
    assert key(a, answer("1")) != key(a)


def test_nothing_of_a_turn_is_lost(make_episode: MakeEpisode) -> None:
    episode = make_episode()
    written = "  <think> why </think>\n<search> ambrosia </search> "
    episode.step_text(written)
    turn = episode.turns[0]
    assert (turn.text, turn.thought, turn.action) == (written, "why", Search("ambrosia"))
    assert turn.hits[0].page_id == f"{AMBER}#1"
    assert turn.views == episode.views
    episode.step_text(crop(0, 0, 99, 99))
    assert episode.turns[1].action == Crop((0, 0, 99, 99))
    episode.step_text(answer("x"))
    assert episode.turns[2].action == Answer("x")
    assert dict(episode.turns[2].reward_terms)["pattern"] == 1.0


ACTIONS = st.one_of(
    st.text(max_size=40),
    st.sampled_from([search("report"), search('Otter\'s "AND" NOT (x:1)^2 *'), "<think></think><bbox>[]</bbox>"]),
    st.text(max_size=20).map(search),
    st.tuples(*[st.integers(-50, 900)] * 4).map(lambda box: crop(*box)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ACTIONS, min_size=1, max_size=6), st.integers(1, 4), st.booleans())
def test_whatever_an_agent_writes(make_episode: MakeEpisode, actions, max_turns: int, answers: bool) -> None:
    episode = make_episode("ivory-origin", max_turns=max_turns, pixels=PixelBudget(28 * 28 * 4, 28 * 28 * 16))
    total = 0.0
    for number, action in enumerate([*actions, answer("Portugal") if answers else "", "", "", ""], start=1):
        result = episode.step_text(action)
        total += result.reward
        assert result.info["turn"] == number
        assert not re.search(r"</?(think|search|bbox|answer)>", text(result))
        for image in images(result):
            assert image.image.size == image.view.size
        if result.terminated or result.truncated:
            break
        assert result.reward == 0
    assert episode.done
    assert len(episode.turns) <= max_turns + 1
    assert 0 <= total <= 1
    assert len(set(episode.pages_shown)) == len(episode.pages_shown)


def test_shaping_sums_to_nothing(make_episode: MakeEpisode) -> None:
    from vrag_env.rewards import Reward

    plain, shaped = make_episode(), make_episode(reward=Reward.preset("paper", shaping=0.5))
    for episode in (plain, shaped):
        for action in (search("ambrosia"), search("cinnamon"), answer("42.5")):
            episode.step_text(action)
    assert shaped.turns[0].reward == pytest.approx(0.5)  # the potential goes from 0 to NDCG 1
    assert sum(t.reward for t in shaped.turns) == pytest.approx(sum(t.reward for t in plain.turns))
