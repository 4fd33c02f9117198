"""The option that names an interpreter with lmms-eval."""


def pytest_addoption(parser):
    parser.addoption(
        "--lmms-eval-python",
        metavar="PATH",
        help="a Python that has lmms-eval and this package, to run the real harness with",
    )
