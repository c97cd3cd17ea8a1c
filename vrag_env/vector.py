"""VRAGVectorEnv: many episodes, stepped with one retrieval call and one call of the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from vrag_env.env import EnvState, Observation, VRAGEnv
from vrag_env.episode import step_many


@dataclass(frozen=True)
class VectorState:
    """What :meth:`VRAGVectorEnv.clone_state` keeps.

    Attributes:
        envs: The state of each environment.
        ended: Which of them have ended and were not reset.
        observations: The last observation of each, without the image, which is drawn again.
    """

    envs: tuple[EnvState, ...]
    ended: tuple[bool, ...]
    observations: tuple[Observation, ...]


class VRAGVectorEnv(VectorEnv[Observation, Sequence[str], np.ndarray]):
    """Many :class:`vrag_env.env.VRAGEnv` that share corpus, retriever, reward and questions.

    Observations, rewards and ends are those of so many single environments, byte for byte, with the seeds
    that ``SyncVectorEnv`` would give them. What differs is the cost: a step of all of them asks the retriever
    once and the judge once, and draws its pictures in several threads.

    Observations are batched as Gymnasium batches these spaces: ``question``, ``text`` and ``image`` are
    tuples with one member per environment, ``turns_left`` is an array ``(num_envs,)`` and ``pixels_left`` an
    array ``(num_envs, 1)``. Actions are a sequence of ``num_envs`` texts. ``info`` holds arrays with one
    member per environment (of objects where the values are not numbers, such as ``blocks``), each with a mask
    under its name with ``_`` before it.

    Args:
        num_envs: How many, at least 1.
        autoreset_mode: When an ended episode gives way to the next: ``"NextStep"`` (the step after the end
            resets and ignores the action), ``"SameStep"`` (the step that ends also resets; the last
            observation and information are in ``final_obs`` and ``final_info``) or ``"Disabled"`` (the caller
            resets with ``options={"reset_mask": ...}``).
        **kwargs: Arguments of :class:`vrag_env.env.VRAGEnv`.

    Raises:
        ValueError: If ``num_envs`` is under 1 or the mode is unknown.

    Example:
        >>> envs = gym.make_vec("VRAG-v0", num_envs=32)  # doctest: +SKIP
        >>> obs, infos = envs.reset(seed=0)  # doctest: +SKIP
        >>> obs, rewards, terminations, truncations, infos = envs.step(32 * [turn])  # doctest: +SKIP
    """

    def __init__(
        self, num_envs: int = 1, autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP, **kwargs: Any
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        first = VRAGEnv(**kwargs)
        self.envs = [first, *(VRAGEnv(**{**kwargs, **first.shared()}) for _ in range(num_envs - 1))]
        self.metadata = {**first.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = first.render_mode
        self.single_action_space = first.action_space
        self.single_observation_space = first.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._env_obs: list[Observation | None] = [None] * num_envs
        self._ended = np.zeros(num_envs, np.bool_)

    @property
    def corpus_version(self) -> int:
        """Version of the corpus that all environments keep to, see :class:`vrag_env.env.VRAGEnv`."""
        return self.envs[0].corpus_version

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: ``s`` seeds environment ``i`` with ``s + i``; a sequence seeds each.
            options: ``"question_ids"``: one id per environment (``None``: the next question of its order);
                ``"question_id"``: one id for all; ``"reset_mask"``: boolean array of the environments to
                reset, the others stay as they are.

        Returns:
            The observations of all environments, and the information of those that were reset.

        Raises:
            TypeError: If the mask is not a boolean array.
            ValueError: If a length does not match ``num_envs``, no environment is to be reset, or an option
                or an id is unknown.
        """
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + index for index in range(self.num_envs)]
        else:
            seeds = list(seed)
            self._check_length("seed", seeds)
        shared = dict(options or {})
        mask = self._mask(shared.pop("reset_mask", None))
        own: list[dict[str, Any]] = [dict(shared) for _ in range(self.num_envs)]
        if "question_ids" in shared:
            self._check_length("question_ids", shared["question_ids"])
            for each, question_id in zip(own, shared["question_ids"], strict=True):
                del each["question_ids"]
                if question_id is not None:
                    each["question_id"] = question_id

        infos: dict[str, Any] = {}
        for index in np.flatnonzero(mask).tolist():
            self._env_obs[index], info = self.envs[index].reset(seed=seeds[index], options=own[index])
            self._ended[index] = False
            infos = self._add_info(infos, info, index)
        return self._batch(), infos

    def step(self, actions: Sequence[str]) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one turn in every environment.

        Args:
            actions: One turn per environment; ignored where this step resets (``"NextStep"``).

        Returns:
            Observations, rewards ``float64``, terminations and truncations ``bool``, all ``(num_envs,)``, and
            the information.

        Raises:
            ValueError: If there are not ``num_envs`` actions.
            RuntimeError: If an episode has ended and was not reset (``"Disabled"``).
        """
        self._check_length("actions", actions)
        resetting = self._ended & (self.autoreset_mode == AutoresetMode.NEXT_STEP)
        running: list[int] = np.flatnonzero(~resetting).tolist()
        results = step_many([self.envs[index].episode for index in running], [actions[index] for index in running])
        by_index = dict(zip(running, results, strict=True))

        rewards = np.zeros(self.num_envs, np.float64)
        terminations = np.zeros(self.num_envs, np.bool_)
        truncations = np.zeros(self.num_envs, np.bool_)
        infos: dict[str, Any] = {}
        for index, env in enumerate(self.envs):
            if index not in by_index:
                observation, info = env.reset()
            else:
                observation, rewards[index], terminations[index], truncations[index], info = env.observe(
                    by_index[index], own_image=False
                )
                ended = terminations[index] or truncations[index]
                if ended and self.autoreset_mode == AutoresetMode.SAME_STEP:
                    final = {"final_obs": _with_own_image(observation), "final_info": info}
                    infos = self._add_info(infos, final, index)
                    observation, info = env.reset()
            self._env_obs[index] = observation
            infos = self._add_info(infos, info, index)
        self._ended = terminations | truncations
        return self._batch(), rewards, terminations, truncations, infos

    def clone_state(self) -> VectorState:
        """Keep the whole state of all environments, to branch their episodes or to come back to a step.

        Raises:
            gymnasium.error.ResetNeeded: If an environment was never reset.
        """
        envs = tuple(env.clone_state() for env in self.envs)
        kept = [
            {name: value for name, value in observation.items() if name != "image"}
            for observation in self._env_obs
            if observation is not None
        ]
        return VectorState(envs, tuple(self._ended.tolist()), tuple(kept))

    def restore_state(self, state: VectorState) -> None:
        """Go back to a kept state; the same actions then give the same results again.

        Args:
            state: From :meth:`clone_state` of this environment, or of one with the same arguments.

        Raises:
            ValueError: If it is of another number of environments, or of other questions.
        """
        self._check_length("state.envs", state.envs)
        for index, (env, kept) in enumerate(zip(self.envs, state.envs, strict=True)):
            env.restore_state(kept)
            # What a step with a mask hands out again for an environment that it does not touch.
            self._env_obs[index] = {**state.observations[index], "image": env.seen}
        self._ended = np.array(state.ended, np.bool_)

    def render(self) -> tuple[Any, ...]:
        """Draw every environment, see :meth:`vrag_env.env.VRAGEnv.render`."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()

    def _batch(self) -> Observation:
        """Stack the observations of all environments into fresh arrays."""
        if any(observation is None for observation in self._env_obs):
            waiting = [index for index, observation in enumerate(self._env_obs) if observation is None]
            raise ValueError(f"environments {waiting} were never reset: reset all of them first")
        out: Any = create_empty_array(self.single_observation_space, n=self.num_envs, fn=np.zeros)
        # The images in here are those that the environments keep: the only copy is made for the caller.
        own = [_with_own_image(observation) for observation in self._env_obs if observation is not None]
        batch: Any = concatenate(self.single_observation_space, own, out)
        return batch

    def _mask(self, mask: Any) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be a boolean array, got {mask!r}")
        self._check_length("options['reset_mask']", mask)
        if not mask.any():
            raise ValueError("options['reset_mask'] must be true for at least one environment")
        return mask

    def _check_length(self, name: str, values: Any) -> None:
        if len(values) != self.num_envs:
            raise ValueError(f"{name} must have num_envs={self.num_envs} members, got {len(values)}")


def _with_own_image(observation: Observation) -> Observation:
    return {**observation, "image": observation["image"].copy()}
