"""Bi-Real Net 18, slim, on 5,000 real digits: minutes on two cores, no download.

bireal-train --config=mnist_5k --dataset=mnist_5k --output_dir=runs/mnist_5k
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "model": {
                "name": "BiRealNet18",
                "num_classes": 10,
                "width": 24,
                "stem": "cifar",
            },
            "dataset": {"image_size": 28, "augmentation": {"name": "pad_crop", "pad": 1}},
            "optimizer": {"name": "adam", "learning_rate": 1e-2},
            "schedule": {"name": "cosine", "warmup_epochs": 0},
            "epochs": 6,
            "batch_size": 64,
            "label_smoothing": 0.1,
            "seed": 0,
        }
    )
