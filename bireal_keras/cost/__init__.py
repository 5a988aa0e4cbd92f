"""What a network costs: multiplications and memory, by the convention of the Bi-Real Net paper.

    print(bireal_keras.cost.of_model(bireal_keras.zoo.BiRealNet18()))
    print(bireal_keras.cost.of_tflite("model.tflite"))      # needs no TensorFlow

The convention (Liu et al., ECCV 2018, arXiv:1808.00278):

    FLOPs  = real multiply-accumulates + binary multiply-accumulates / 64
    memory = 32 bits for each real weight + 1 bit for each binary weight

A multiply-accumulate (MAC) is *binary* if both of its factors are 1-bit: weights of one bit
that meet real activations are stored in one bit and multiplied as reals. Only the products of
weights and activations count. Biases, BatchNormalization, activations, pooling and shortcuts
cost no FLOPs, and neither does a product of two activations, as in attention. Of
BatchNormalization, gamma and beta count as weights, the moving statistics do not: that is what
reproduces the paper's figures, and what is left when it is folded into a factor and a summand.
"""

from typing import TYPE_CHECKING

from bireal_keras import _lazy
from bireal_keras.cost.report import Cost, LayerCost
from bireal_keras.cost.tflite_model import of_tflite

if TYPE_CHECKING:
    from bireal_keras.cost.keras_model import of_model

__all__ = ["Cost", "LayerCost", "of_model", "of_tflite"]

# A device has no TensorFlow, and no need of it to look into a .tflite file.
__getattr__, __dir__ = _lazy.attach(__name__, {"of_model": "bireal_keras.cost.keras_model"})
