"""Lets the tests load another build of the delegate, such as one with sanitizers."""

import os
from pathlib import Path

from bireal_keras.runtime import interpreter

if path := os.environ.get("BIREAL_TEST_DELEGATE"):
    interpreter._LIBRARY = Path(path).resolve()
