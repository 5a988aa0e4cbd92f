"""What `bireal_keras.export.convert` tells about the file it wrote."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """A converted model in figures; `str(report)` is for people, `dataclasses.asdict` for JSON.

    Attributes:
        path: the file.
        size_bytes: its size.
        float_size_bytes: 4 bytes for each parameter of the Keras model.
        binary_convolutions: bit-packed convolutions (`LceBconv2d`) in the file.
        intended_binary_convolutions: convolutions of the Keras model with a 1-bit input and
            a 1-bit kernel; each of them is bit-packed in the file.
        float_convolutions: convolutions that the file computes in float32.
        samples: images on which the file was compared with Keras.
        close_samples: how many of them gave the same result up to rounding.
        max_abs_difference: the largest difference on any of them, of the logits (the
            logarithms of the probabilities, where the model ends in softmax).
        top1_agreement: share of the samples on which both find the same class, 0 to 1;
            None for a model whose output is not (batch, classes).
    """

    path: str
    size_bytes: int
    float_size_bytes: int
    binary_convolutions: int
    intended_binary_convolutions: int
    float_convolutions: int
    samples: int
    close_samples: int
    max_abs_difference: float
    top1_agreement: float | None

    def __str__(self) -> str:
        top1 = "" if self.top1_agreement is None else f", top-1 agrees on {self.top1_agreement:.1%}"
        return (
            f"{self.path}: {self.size_bytes:,} bytes, "
            f"{self.float_size_bytes / self.size_bytes:.1f} times smaller than the float32 weights "
            f"({self.float_size_bytes:,} bytes)\n"
            f"convolutions: {self.binary_convolutions} bit-packed "
            f"({self.intended_binary_convolutions} with 1-bit quantizers in Keras), "
            f"{self.float_convolutions} in float32\n"
            f"against Keras, on {self.samples} samples: {self.close_samples} equal up to rounding"
            f"{top1}, largest difference {self.max_abs_difference:.2g}"
        )
