"""viq eval reconstruction."""

import argparse


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    kinds.add_parser("reconstruction", help="in the making")
