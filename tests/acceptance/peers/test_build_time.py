"""Building BiRealNet18 takes about as long as building larq-zoo's: `make test-peers`."""

import importlib
import sys
import time
from pathlib import Path

from bireal_keras._keras import keras
from bireal_keras.zoo import BiRealNet18

ROUNDS = 5


def seconds(build) -> float:
    keras.backend.clear_session()
    start = time.process_time()
    build()
    return time.process_time() - start


def test_build_time(monkeypatch):
    folder = Path(__file__).parents[3] / "_build/peers/larq_zoo"
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    larq_zoo = importlib.import_module("larq_zoo")
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(BiRealNet18))
        theirs.append(seconds(lambda: larq_zoo.literature.BiRealNet(weights=None)))
    print(f"ours {min(ours):.2f} s, larq-zoo's {min(theirs):.2f} s")
    assert min(ours) <= 1.2 * min(theirs)
