"""What stands between the sums of the 1-bit nets without Bi-Real Net's shortcuts."""

from model_structure import chain, producers

from bireal_keras import zoo
from bireal_keras.quantizers import ApproxSign, MagnitudeAwareSign

SLIM = {"input_shape": (8, 8, 3), "stem": "cifar", "width": 2, "num_classes": 3}
CONV_BN = ["QuantConv2D", "BatchNormalization"]


def blocks(per_stage):
    """(name, whether it halves the map) of every block, in order."""
    for stage in range(4):
        for index in range(per_stage):
            yield f"stage{stage + 1}_block{index + 1}", stage > 0 and index == 0


def check_quantizers(conv):
    """They are Bi-Real Net's: the shortcuts alone are different."""
    assert type(conv.input_quantizer) is ApproxSign
    assert type(conv.kernel_quantizer) is MagnitudeAwareSign


def test_plain():
    model = zoo.BinaryPlainNet18(**SLIM)
    previous = model.get_layer("stem_bn")
    for block, halves in blocks(4):
        end = model.get_layer(f"{block}_bn")
        assert chain(end, previous) == CONV_BN
        check_quantizers(model.get_layer(f"{block}_conv"))
        assert model.get_layer(f"{block}_conv").strides == ((2, 2) if halves else (1, 1))
        previous = end
    assert producers(model.get_layer("head_pool")) == [previous]


def test_shortcut_around_two():
    model = zoo.BinaryResNet18(**SLIM)
    previous = model.get_layer("stem_bn")
    for block, halves in blocks(2):
        end = model.get_layer(f"{block}_add")
        branch, shortcut = producers(end)
        assert chain(branch, previous) == 2 * CONV_BN
        assert chain(shortcut, previous) == (
            ["AveragePooling2D", "Conv2D", "BatchNormalization"] if halves else []
        )
        convs = [model.get_layer(f"{block}_conv{index}") for index in (1, 2)]
        assert [conv.strides for conv in convs] == [(2, 2) if halves else (1, 1), (1, 1)]
        for conv in convs:
            check_quantizers(conv)
        previous = end
    assert producers(model.get_layer("head_pool")) == [previous]
