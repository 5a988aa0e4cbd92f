"""The console commands: one module for each, `bireal-train` is `train`, with a function `run`."""
