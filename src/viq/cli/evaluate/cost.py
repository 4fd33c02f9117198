"""viq eval cost."""

import argparse


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    kinds.add_parser("cost", help="in the making")
