"""VLLMRollout: plays episodes with vLLM servers instead of the model in this process.

It takes the place of :func:`vrag_agent.rollout.collect` in a trainer (``play=``). After every update of the policy
its adapter goes to all servers under a new name, and their caches are reset. The log-probs of the servers are kept
with the actions: they are those of another implementation, and the trainer weighs its loss by how far they are from
its own (truncated importance sampling).

A server that does not reply any more is left out, and its turns go to the others: a turn is a request with the
whole conversation, so nothing is lost with a server. It is tried again at the next update. Without a server left
the rollout ends with an error; the trainer has changed nothing then.
"""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage

from vrag_agent.families import Family
from vrag_agent.parallel import Parallel, SingleProcess
from vrag_agent.policy import VLMPolicy
from vrag_agent.sampler import Sampled
from vrag_agent.trajectory import Segment, Trajectory
from vrag_agent.vllm_server import RenderedImage, VLLMServer
from vrag_env.episode import Block, Episode, Image, StepResult, step_many
from vrag_env.errors import ServerError
from vrag_env.json_client import Unanswered

_RENDERED_IMAGES = 4096
"""Rendered images kept in memory."""
_BAN = -100.0  # what vLLM takes for a logit bias goes from -100 to 100


@dataclass
class _Game:
    """An episode under way: its tokens so far, and its images in order."""

    index: int
    episode: Episode
    server: int
    generator: torch.Generator | None
    segments: list[Segment] = field(default_factory=list)
    images: list[PILImage.Image] = field(default_factory=list)
    state_key: str = ""
    last: StepResult | None = None


class VLLMRollout:
    """Plays episodes with servers; see the module.

    Args:
        servers: At least one.
        directory: Where adapters are written, seen by the servers under the same path.
        name: Of the adapters; the version is added.
        parallel: The processes of the run: the first one uploads.

    Raises:
        ServerError: If there is no server.
    """

    def __init__(
        self,
        servers: Sequence[VLLMServer],
        directory: str | Path,
        *,
        name: str = "vrag",
        parallel: Parallel | None = None,
    ) -> None:
        if not servers:
            raise ServerError("rollout=vllm needs the address of at least one server: rollout_urls")
        self.servers = list(servers)
        self.directory = Path(directory).resolve()
        self.name = name
        self.parallel = parallel or SingleProcess()
        self._alive = [True] * len(self.servers)
        self._loaded = ""
        self._version: int | None = None
        self._rendered: OrderedDict[tuple[int, str], RenderedImage] = OrderedDict()
        self._gates: dict[tuple[int, str], threading.Lock] = {}
        self._lock = threading.Lock()

    def __call__(
        self,
        policy: VLMPolicy,
        episodes: Sequence[Episode],
        *,
        max_tokens: int,
        generator: torch.Generator | None = None,
        batch_size: int = 64,
        progress: Callable[[int], None] | None = None,
    ) -> list[Trajectory]:
        """Play episodes to their end.

        Args:
            policy: Whose adapter the servers shall have; it computes nothing.
            episodes: Fresh episodes.
            max_tokens: Most tokens of one action.
            generator: Gives each episode the seed of its own generator, which gives the seeds of the requests;
                ``None`` for greedy decoding.
            batch_size: Most episodes at the same time.
            progress: Called with the number of episodes that have just ended.

        Returns:
            One trajectory per episode, in the same order, with the log-probs of the servers.

        Raises:
            ServerError: If no server is left, or one can not do what is needed.
        """
        self.sync(policy)
        if not episodes:
            return []
        seeds: list[int | None] = [None] * len(episodes)
        if generator is not None:
            seeds = list(torch.randint(1 << 62, (len(episodes),), generator=generator).tolist())
        sampling = {
            "max_tokens": max_tokens,
            "temperature": 0.0 if generator is None else policy.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": [policy.family.stop_id],
            "skip_special_tokens": False,
            "logit_bias": {str(index): _BAN for index in _banned(policy)},
        }
        return self._play(policy, episodes, seeds, sampling, batch_size, progress)

    # ------------------------------------------------------------------ weights

    def sync(self, policy: VLMPolicy) -> None:
        """Bring the policy's adapter to all servers, unless they have this version.

        Raises:
            ServerError: If the policy has no adapter, or no server takes it.
        """
        if policy.adapter is None:
            raise ServerError("rollout=vllm sends the weights to the servers as an adapter: train one with lora=32")
        if self._version == policy.version:
            return
        loaded = f"{self.name}-v{policy.version}"
        path = self.directory / loaded
        alive = [False] * len(self.servers)
        if self.parallel.rank == 0:
            written = path.with_name(path.name + ".part")
            for old in (path, written):
                shutil.rmtree(old, ignore_errors=True)
            policy.adapter.save_pretrained(str(written))
            written.rename(path)
            alive = [self._upload(server, loaded, path) for server in self.servers]
        # What the first process found is what all of them go on with.
        counts = self.parallel.sum(torch.tensor([float(one) for one in alive]))
        self._alive = [bool(count > 0) for count in counts.tolist()]
        if not any(self._alive):
            raise ServerError(f"none of {len(self.servers)} vLLM servers took the adapter {path}: are they running?")
        if self._loaded and self.parallel.rank == 0:
            shutil.rmtree(self.directory / self._loaded, ignore_errors=True)
        self._loaded, self._version = loaded, policy.version

    def _upload(self, server: VLLMServer, loaded: str, path: Path) -> bool:
        try:
            server.load_adapter(loaded, str(path))
            if self._loaded:
                server.unload_adapter(self._loaded)
            server.reset_caches()
        except Unanswered as fault:
            if fault.status is not None:  # it is there, and says no: not a matter of waiting
                raise ServerError(f"{server!r} did not take the adapter {path}: {fault}") from fault
            return False
        return True

    # ------------------------------------------------------------------ play

    def _play(
        self,
        policy: VLMPolicy,
        episodes: Sequence[Episode],
        seeds: Sequence[int | None],
        sampling: dict[str, Any],
        batch_size: int,
        progress: Callable[[int], None] | None,
    ) -> list[Trajectory]:
        family, stop = policy.family, threading.Event()
        coming = iter(enumerate(episodes))
        finished: dict[int, Trajectory] = {}
        with ThreadPoolExecutor(min(batch_size, len(episodes)), "vrag-vllm") as pool:
            running: dict[Future[Sampled], _Game] = {}

            def ask(game: _Game) -> None:
                game.state_key = game.episode.state_key
                request = dict(sampling)
                if game.generator is not None:
                    request["seed"] = int(torch.randint(1 << 31, (1,), generator=game.generator))
                running[pool.submit(self._act, family, game, request, stop)] = game

            try:
                while len(finished) < len(episodes):
                    while len(running) < batch_size and (entry := next(coming, None)) is not None:
                        ask(self._begin(policy, *entry, seeds[entry[0]]))
                    ended, _ = wait(running, return_when=FIRST_COMPLETED)
                    played = [(running.pop(future), future.result()) for future in ended]
                    results = step_many(
                        [game.episode for game, _ in played], [family.decode(a.token_ids) for _, a in played]
                    )
                    for (game, action), result in zip(played, results, strict=True):
                        self._take(policy, game, action, result)
                        if game.episode.done:
                            finished[game.index] = _trajectory(game)
                            if progress is not None:
                                progress(1)
                        else:
                            self._see(game, family.observation(result.blocks, action.token_ids), result.blocks)
                            ask(game)
            except BaseException:
                stop.set()
                for future in running:
                    future.cancel()
                raise
        return [finished[index] for index in range(len(episodes))]

    def _begin(self, policy: VLMPolicy, index: int, episode: Episode, seed: int | None) -> _Game:
        own = None if seed is None else torch.Generator().manual_seed(seed)
        game = _Game(index, episode, index % len(self.servers), own)
        blocks = episode.start(0 if seed is None else seed).blocks
        system = episode.instructions if policy.system is None else policy.system
        self._see(game, policy.family.prompt(system, blocks), blocks)
        return game

    @staticmethod
    def _see(game: _Game, segment: Segment, blocks: Sequence[Block]) -> None:
        game.segments.append(segment)
        game.images += [block.image for block in blocks if isinstance(block, Image)]

    @staticmethod
    def _take(policy: VLMPolicy, game: _Game, action: Sampled, result: StepResult) -> None:
        game.last = result
        game.segments.append(
            Segment(
                "action",
                action.token_ids,
                action.logprobs,
                reward=result.reward,
                policy_version=policy.version,
                state_key=game.state_key,
            )
        )

    def _act(self, family: Family, game: _Game, request: dict[str, Any], stop: threading.Event) -> Sampled:
        """Sample the next action of a game at its server, or at another one if that is gone."""
        ids = [token for segment in game.segments for token in segment.token_ids]
        starts, offset = [], 0
        for segment in game.segments:
            for image in segment.images:
                if image.runs:
                    raise ServerError(f"rollout=vllm knows one run of tokens per image; {family.name} cuts it in tiles")
                starts.append((offset + image.start, image))
            offset += len(segment.token_ids)
        reason = ""
        for turn in range(len(self.servers)):
            place = (game.server + turn) % len(self.servers)
            if not self._alive[place]:
                continue
            server = self.servers[place]
            try:
                rendered = []
                for (start, image), picture in zip(starts, game.images, strict=True):
                    one = self._render(place, image.key, picture, stop)
                    if one.tokens != image.length:
                        raise ServerError(
                            f"{server!r} makes {one.tokens} tokens of an image of {picture.size}, {family.name} "
                            f"{image.length}: start the server with the model's own image processor"
                        )
                    rendered.append((start, one))
                action = server.generate(ids, rendered, request, self._loaded, stop)
            except Unanswered as fault:
                if fault.status is not None and fault.status < 500:  # refused, by any server alike
                    raise ServerError(f"{server!r} refused a conversation of {len(ids)} tokens: {fault}") from fault
                reason = str(fault)
                self._alive[place] = False
                continue
            game.server = place  # its prefix is in that server's cache
            return action
        raise ServerError(
            f"none of {len(self.servers)} vLLM servers is left ({reason or 'all failed before'}): the policy is as it "
            "was before this rollout; start them again and resume the run"
        )

    def _render(self, place: int, key: str, picture: PILImage.Image, stop: threading.Event) -> RenderedImage:
        with self._lock:
            gate = self._gates.setdefault((place, key), threading.Lock())
        with gate:  # episodes that show the same page at the same time wait for one rendering
            with self._lock:
                known = self._rendered.get((place, key))
                if known is not None:
                    self._rendered.move_to_end((place, key))
                    return known
            rendered = self.servers[place].render(picture, stop)
            with self._lock:
                self._rendered[place, key] = rendered
                while len(self._rendered) > _RENDERED_IMAGES:
                    forgotten, _ = self._rendered.popitem(last=False)
                    self._gates.pop(forgotten, None)
        return rendered


def _banned(policy: VLMPolicy) -> list[int]:
    """Ids that must not be sampled: special tokens, and rows of the model that no token has."""
    return policy.forbidden.nonzero().flatten().tolist()


def _trajectory(game: _Game) -> Trajectory:
    assert game.last is not None
    return Trajectory(
        tuple(game.segments),
        question_id=game.episode.question.question_id,
        info={k: v for k, v in game.last.info.items() if k != "blocks"},
        truncated=game.last.truncated,
    )
