"""``python -m vrag_agent``: the command line, for launchers such as torchrun that start a module."""

from vrag_agent.cli import main

if __name__ == "__main__":
    main()
