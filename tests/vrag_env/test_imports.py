"""What an import costs: the environment needs neither torch nor transformers."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "colpali_engine", "stable_baselines3", "gradio")


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the names of the modules that it has loaded."""
    script = f"{code}\nimport sys\nprint('MODULES', *sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.rpartition("MODULES")[2].split())


def test_the_package_is_light() -> None:
    loaded = loaded_after("import vrag_env")
    assert "vrag_env" in loaded
    assert not loaded & {*HEAVY, "lancedb", "vrag_env.episode"}


def test_the_public_modules_are_light() -> None:
    loaded = loaded_after(
        "import vrag_env.env, vrag_env.vector, vrag_env.replay, vrag_env.players, vrag_env.corpus, "
        "vrag_env.retrieval, vrag_env.rewards"
    )
    assert not loaded & set(HEAVY)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VRAG-v0", "vrag_env:VRAG-v0"])
def test_the_environment_is_light(name: str) -> None:
    first = "" if ":" in name else "import vrag_env; "
    loaded = loaded_after(
        f"{first}import gymnasium as gym; env = gym.make({name!r}); env.reset(seed=0); "
        "env.step('<think>a</think><search>status board</search>')"
    )
    assert "vrag_env.env" in loaded
    assert not loaded & set(HEAVY)
