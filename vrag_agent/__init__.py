"""vrag_agent: a vision-language policy for ``VRAG-v0`` and its multi-turn PPO.

Import the modules that you need, for example ``from vrag_agent.ppo import PPO``; the package itself imports
nothing, so that the command line can answer ``--help`` without loading a deep learning library.
"""
