"""The ``viq`` command, one thin module a subcommand; the only place that prints."""
