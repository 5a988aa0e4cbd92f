"""XNOR-Net's order, BN, sign, convolution, on the skeleton of BinaryResNet."""

from model_structure import chain, producers

from bireal_keras import zoo
from bireal_keras._keras import lq
from bireal_keras.quantizers import MagnitudeAwareSign


def test_structure():
    model = zoo.XNORResNet18(input_shape=(8, 8, 3), stem="cifar", width=2, num_classes=3)
    previous = model.get_layer("stem_bn")
    for stage in range(4):
        for index in range(2):
            block = f"stage{stage + 1}_block{index + 1}"
            end = model.get_layer(f"{block}_add")
            branch, shortcut = producers(end)
            assert chain(branch, previous) == 2 * ["BatchNormalization", "QuantConv2D"]
            assert chain(shortcut, previous) == (
                ["AveragePooling2D", "Conv2D", "BatchNormalization"]
                if stage > 0 and index == 0
                else []
            )
            for conv in (model.get_layer(f"{block}_conv{number}") for number in (1, 2)):
                assert type(conv.input_quantizer) is lq.quantizers.SteSign
                assert type(conv.kernel_quantizer) is MagnitudeAwareSign
            previous = end
    assert chain(model.get_layer("head_pool"), previous) == [
        "BatchNormalization",
        "GlobalAveragePooling2D",
    ]
