"""viq eval understanding."""

import argparse


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    kinds.add_parser("understanding", help="in the making")
