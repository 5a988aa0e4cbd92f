"""Bi-Real Net 34 on ImageNet in four stages and a fifth step, as in the ECCV 2018 paper.

    bireal-train --config=imagenet_caffe_34 --dataset=imagenet2012 --data_dir=~/tfds \\
        --output_dir=runs/imagenet_caffe_34

Source of the numbers, unless they say otherwise: the section "Training Procedure" in the
README of https://github.com/liuzechun/Bi-Real-net, by the paper's authors, who report 62.2 %
top-1 for it. The solver file beside it (Bi-Real-net-34-solver.prototxt) has other numbers:
rate 0.01, and 20,000, 30,000 and 40,000 iterations for the last stage.

What differs here: the network is that of the authors' later PyTorch code, with BatchNorm on the
shortcuts that change the shape and without biases in convolutions; BatchNorm's momentum and
epsilon are larq-zoo's; images are scaled to [-1, 1], theirs have a mean taken off; 1-bit weights
are clipped to [-1, 1], and their gradient is the paper's formula, not the Caffe layer's plain
copy.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    # The README names ResNet's hyper-parameters. He et al., CVPR 2016
    # (arXiv:1512.03385), Section 3.4: batches of 256, rate 0.1, momentum 0.9, weight decay 1e-4.
    resnet = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "l2": 1e-4}
    # The README gives no numbers for the two times of fine-tuning. Ours: from a tenth of the
    # rate, 10 epochs each.
    fine_tuning = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "l2": 1e-4}
    float_model = {"name": "BiRealNet34Float"}
    return ml_collections.ConfigDict(
        {
            "model": {
                "name": "BiRealNet34",
                "num_classes": 1000,
                "width": 64,
                "stem": "imagenet",
            },
            # The short side is scaled to 256, a random 224x224 crop is taken and mirrored. No
            # random resize, which the README points out. For inference the centre crop.
            "dataset": {
                "image_size": 224,
                "augmentation": {"name": "random_crop_flip", "share": 224 / 256},
                "center_crop": 224 / 256,
            },
            "stages": (
                {
                    "name": "relu",
                    "model": {**float_model, "activation": "relu"},
                    "optimizer": resnet,
                    # He et al. lower the rate when the error stops falling. These epochs are those
                    # of PyTorch's examples/imagenet with the same settings.
                    "schedule": {"name": "step", "milestones": (30 / 90, 60 / 90)},
                    "epochs": 90,
                    "batch_size": 256,
                },
                {
                    "name": "leaky_clip",
                    "model": {**float_model, "activation": "leaky_clip"},
                    "optimizer": fine_tuning,
                    "schedule": {"name": "step", "milestones": (5 / 10,)},
                    "epochs": 10,
                    "batch_size": 256,
                },
                {
                    "name": "clip",
                    "model": {**float_model, "activation": "clip"},
                    "optimizer": fine_tuning,
                    "schedule": {"name": "step", "milestones": (5 / 10,)},
                    "epochs": 10,
                    "batch_size": 256,
                },
                {
                    "name": "one_bit",
                    # No weight decay; rate 0.08, times 0.1 after 20 and 30 of 40 epochs;
                    # batches of 1024.
                    "optimizer": {"name": "sgd", "learning_rate": 0.08, "momentum": 0.9},
                    "schedule": {"name": "step", "milestones": (20 / 40, 30 / 40)},
                    "epochs": 40,
                    "batch_size": 1024,
                },
            ),
            # With the weights at -1 and +1 and a rate of 0 for all convolutions, the authors
            # retrain BatchNorm for 1 epoch.
            "reestimate_epochs": 1,
            "label_smoothing": 0.0,
            "seed": 0,
        }
    )
