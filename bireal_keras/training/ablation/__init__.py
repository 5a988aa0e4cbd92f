"""The ablation study: what does each of the paper's ideas bring?

A *cell* makes a choice on each of four axes, one for each idea (Liu et al., ECCV 2018,
arXiv:1808.00278): the shortcuts, the gradient of the activations' sign, the gradient of the
weights' sign, and the weights to start from. Every cell is trained with every seed, by
`training.train_and_evaluate` from one recipe. All cells of a seed that start from the same
real-valued network share it.

Two things make it a fair comparison. With an equal budget, pre-training is taken out of a cell's
epochs. And with several learning rates, each network gets the one that is best for it on training
images that are held out; the validation images choose nothing.

A study is a folder. What is finished in it is not trained again, and what was interrupted is
resumed; more cells and more seeds can follow.
"""

from bireal_keras.training.ablation.cells import AXES, DESIGNS, Cell, select_cells
from bireal_keras.training.ablation.effects import Effect, effects
from bireal_keras.training.ablation.report import write_tables
from bireal_keras.training.ablation.results import Result, read_results
from bireal_keras.training.ablation.study import run

__all__ = [
    "AXES",
    "DESIGNS",
    "Cell",
    "Effect",
    "Result",
    "effects",
    "read_results",
    "run",
    "select_cells",
    "write_tables",
]
