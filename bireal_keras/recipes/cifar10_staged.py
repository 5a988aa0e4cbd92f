"""CIFAR-10 as `BiRealNet18(weights="cifar10")` was trained: a real-valued net first.

    bireal-train --config=cifar10_staged --dataset=cifar10 --download --output_dir=runs/cifar10

Half the paper's width, so that a CPU of two cores is done within four hours if it computes in
bfloat16: --config.precision=mixed_bfloat16.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "model": {
                "name": "BiRealNet18",
                "num_classes": 10,
                "width": 32,
                # 32x32 images cannot spare the ImageNet stem's two halvings.
                "stem": "cifar",
            },
            # Shifts by up to 4 pixels and mirrors, what ResNets are trained with on CIFAR:
            # He et al., CVPR 2016 (arXiv:1512.03385), Section 4.2.
            "dataset": {"image_size": 32, "augmentation": {"name": "pad_crop_flip", "pad": 4}},
            # Adam as the authors' PyTorch code. Ours: the rate, for so short a run, and that it
            # falls as a cosine.
            "optimizer": {"name": "adam", "learning_rate": 2e-3},
            "schedule": {"name": "cosine", "warmup_epochs": 0},
            # Two of the paper's three real-valued nets (Liu et al., ECCV 2018, arXiv:1808.00278,
            # Section 3.3): the first, with ReLU, which also is the teacher, as ReActNet has one
            # (Liu et al., ECCV 2020, arXiv:2003.03488, Section 4.3), and the last, whose clip is
            # what the sign's gradient approximates.
            "stages": (
                {"name": "relu", "model": {"name": "BiRealNet18Float"}, "epochs": 12},
                {
                    "name": "clip",
                    "model": {"name": "BiRealNet18Float", "activation": "clip"},
                    "epochs": 4,
                },
                {"name": "one_bit", "distillation": {"teacher": "relu"}, "epochs": 44},
            ),
            "precision": "float32",
            "batch_size": 128,
            "label_smoothing": 0.0,
            "seed": 0,
        }
    )
