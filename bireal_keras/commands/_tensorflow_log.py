"""What TensorFlow and its datasets say of their progress, of which a person needs nothing."""

import os

from absl import logging


def silence() -> None:
    """Leaves errors only, unless --verbosity asks for more.

    It is early enough before TensorFlow is imported.
    """
    if logging.get_verbosity() < logging.DEBUG:
        logging.set_verbosity(logging.ERROR)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
