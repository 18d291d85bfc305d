"""Lets ``python -m crp_kit`` run the command line."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="crp-kit")
