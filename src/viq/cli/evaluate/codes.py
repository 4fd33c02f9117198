"""viq eval codes."""

import argparse


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    kinds.add_parser("codes", help="in the making")
