"""Bi-Real Net 18 on ImageNet, from scratch, as larq-zoo trains it.

    bireal-train --config=imagenet_larq_18 --dataset=imagenet2012 --data_dir=~/tfds \\
        --output_dir=runs/imagenet_larq_18

Source of the numbers: https://github.com/larq/zoo, larq_zoo/training, class
TrainBiRealNet in basic_experiments.py. Its documentation reports 57.5 % top-1 and 79.8 % top-5.

What differs here: images are resized bilinearly, theirs bicubically, and lie in [-1, 1], where
theirs have ImageNet's mean and deviation.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "model": {
                "name": "BiRealNet18",
                "num_classes": 1000,
                "width": 64,
                "stem": "imagenet",
            },
            "dataset": {
                "image_size": 224,
                # 8 to 100 % of the area, mirrored.
                "augmentation": {"name": "random_resized_crop_flip"},
                # The centre, padded by 32 pixels.
                "center_crop": 224 / 256,
            },
            "optimizer": {"name": "adam", "learning_rate": 5e-3},
            # PolynomialDecay of power 1 to 0, step by step.
            "schedule": {"name": "linear", "interval": "step"},
            "epochs": 300,
            "batch_size": 512,
            "label_smoothing": 0.0,
            "seed": 0,
        }
    )
