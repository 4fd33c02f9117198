"""What ``viq eval`` can evaluate: a module each, with ``add_parser`` and ``run``."""
