"""Run the command: ``python -m probe``."""

from probe.command.main import main

if __name__ == "__main__":
    main()
