"""Configurations: what is unknown or does not fit is told with the nearest name; what is written is read again."""

from pathlib import Path
from typing import Any

import pytest

from vrag_agent.config import PRESETS, ConfigError, GRPOConfig, PPOConfig
from vrag_agent.settings import documentation, dump, make_config, parse_pairs, read_yaml, write_yaml
from vrag_agent.train_command import settle


def test_texts_become_the_types_of_the_fields() -> None:
    given = parse_pairs(["learning-rate=2e-5", "n_epochs = 3", "dual_clip=null", "drop_void_turns=true", "loss=cispo"])
    config = make_config(PPOConfig, given)
    assert (config.learning_rate, config.n_epochs, config.dual_clip) == (2e-5, 3, None)
    assert config.drop_void_turns is True and config.loss == "cispo"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": "1"}, "no 'learning_rat': did you mean learning_rate"),
        ({"lr": "1"}, "PPOConfig has no 'lr'"),
        ({"n_epochs": "2.5"}, "n_epochs must be a whole number, got '2.5'"),
        ({"n_epochs": True}, "n_epochs must be a whole number, got True"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
        ({"drop_truncated": "yes"}, "drop_truncated must be true or false, got 'yes'"),
        ({"loss": "clpi"}, "loss must be one of clip, cispo, got 'clpi': did you mean clip"),
        ({"gamma": 1.5}, r"gamma must be in \[0, 1\], got 1.5"),
        ({"dual_clip": "1"}, "dual_clip must be above 1"),
        ({"learning_rate": "nan"}, "learning_rate must not be negative, got nan"),
        ({"minibatch_size": 100}, "minibatch_size must be between 1 and n_episodes=64, got 100"),
    ],
)
def test_what_does_not_fit_is_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(PPOConfig, values)


def test_a_pair_needs_a_value() -> None:
    with pytest.raises(ConfigError, match="expected name=value"):
        parse_pairs(["learning_rate"])


@pytest.mark.parametrize("kind", [PPOConfig, GRPOConfig])
def test_every_field_is_documented(kind: type) -> None:
    told = documentation(kind)
    for name in kind.__dataclass_fields__:  # type: ignore[attr-defined]
        assert len(told.get(name, "")) > 5, name


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_shown_is_a_file_that_says_the_same(preset: str, tmp_path: Path) -> None:
    algorithm = PRESETS[preset].algorithm
    sections = settle(algorithm, preset=preset, run={"model": "some/model"}, environment={"split": "train"})
    write_yaml(tmp_path / "config.yaml", sections)
    again = settle(algorithm, file=tmp_path / "config.yaml", run={}, environment={})
    assert again == sections
    assert "# Episodes per iteration" in dump(algorithm, sections[algorithm])


def test_the_paper_in_numbers() -> None:
    sections = settle("grpo", preset="vrag_paper", run={}, environment={})
    config = sections["grpo"]
    assert (config.group_size, config.n_episodes, config.minibatch_size) == (5, 160, 32)
    assert (config.kl_estimator, config.kl_coef, config.learning_rate) == ("k3", 0.01, 1e-6)
    assert sections["environment"] == {"max_turns": 4}


def test_the_command_line_goes_before_the_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(
        "run: {iterations: 7}\ngrpo:\n  learning_rate: 1e-5\n  group_size: 10\nenvironment: {max_turns: 6}\n"
    )
    sections = settle(
        "grpo", preset="vrag_paper", file=file, pairs=["group_size=4"], run={"model": "m"}, environment={"max_turns": 8}
    )
    assert (sections["grpo"].learning_rate, sections["grpo"].group_size) == (1e-5, 4)  # YAML 1.1 reads a text there
    assert (sections["run"].iterations, sections["run"].model) == (7, "m")
    assert sections["grpo"].kl_coef == 0.01 and sections["environment"] == {"max_turns": 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ppo: {lam: 0.9}", "unknown section 'ppo'"),
        ("grpo: 3", "must hold names and values"),
        ("- 1", "must hold names and values"),
        ("run: {algorithm: ppo}", "vrag train ppo"),
        ("a: [", "can not be read as YAML"),
        ("x: !!python/object/apply:os.system ['true']", "can not be read as YAML"),
        ("run: {iteration: 3}", "did you mean iterations"),
    ],
)
def test_a_file_that_does_not_fit_is_told(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        settle("grpo", file=file, run={}, environment={})


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("")
    assert read_yaml(tmp_path / "my.yaml") == {}


def test_a_preset_of_the_other_algorithm_is_an_error() -> None:
    with pytest.raises(ConfigError, match="run vrag train grpo"):
        settle("ppo", preset="vrag_paper", run={}, environment={})
    with pytest.raises(ConfigError, match="unknown preset 'paper'"):
        settle("ppo", preset="paper", run={}, environment={})
