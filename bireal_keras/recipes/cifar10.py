"""Bi-Real Net 18, slim, with a 3x3 stem for small images: CIFAR-10 on a CPU.

    bireal-train --config=cifar10 --dataset=cifar10 --download --output_dir=runs/cifar10

A wider net learns more and takes longer: --config.model.width=64 is the paper's width.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "model": {
                "name": "BiRealNet18",
                "num_classes": 10,
                "width": 16,
                # 32x32 images cannot spare the ImageNet stem's two halvings.
                "stem": "cifar",
            },
            # Shifts by up to 4 pixels and mirrors, what ResNets are trained with on CIFAR:
            # He et al., CVPR 2016 (arXiv:1512.03385), Section 4.2.
            "dataset": {"image_size": 32, "augmentation": {"name": "pad_crop_flip", "pad": 4}},
            # Ours: Adam as the authors' PyTorch code, a higher rate for the shorter run.
            "optimizer": {"name": "adam", "learning_rate": 5e-3},
            "schedule": {"name": "cosine", "warmup_epochs": 0},
            "epochs": 20,
            "batch_size": 128,
            "label_smoothing": 0.0,
            "seed": 0,
        }
    )
