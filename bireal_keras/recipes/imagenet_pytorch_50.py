"""Bi-Real Net 50 on ImageNet, from scratch, as the authors' PyTorch release trains it.

    bireal-train --config=imagenet_pytorch_50 --dataset=imagenet2012 --data_dir=~/tfds \\
        --output_dir=runs/imagenet

Source of the numbers: https://github.com/liuzechun/Bi-real-net, pytorch_implementation,
BiReal_50/train.py. Its README reports 62.6 % top-1.

What differs here: no colour ("lighting") noise, which their code adds at a scale that hardly
shows; images lie in [-1, 1], where theirs have ImageNet's mean and deviation; BatchNorm's
momentum and epsilon are larq-zoo's; weights are clipped to [-1, 1].
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "model": {
                "name": "BiRealNet50",
                "num_classes": 1000,
                "width": 64,
                "stem": "imagenet",
            },
            "dataset": {
                "image_size": 224,
                # RandomResizedCrop(224, scale=(0.08, 1)) and RandomHorizontalFlip.
                "augmentation": {"name": "random_resized_crop_flip"},
                # Resize(256) and CenterCrop(224).
                "center_crop": 224 / 256,
            },
            # Adam with default betas and no weight decay.
            "optimizer": {"name": "adam", "learning_rate": 5e-4},
            # LambdaLR, stepped before each epoch, so that the last one has a rate of 0.
            "schedule": {"name": "linear", "interval": "epoch"},
            "epochs": 256,
            "batch_size": 256,
            "label_smoothing": 0.1,
            "seed": 0,
        }
    )
