"""viq eval storage."""

import argparse


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    kinds.add_parser("storage", help="in the making")
