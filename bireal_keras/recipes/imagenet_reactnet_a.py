"""ReActNet-A on ImageNet: two stages, and a real-valued teacher first.

    bireal-train --config=imagenet_reactnet_a --dataset=imagenet2012 --data_dir=~/tfds \\
        --output_dir=runs/imagenet_reactnet_a

Source of the numbers, unless they say otherwise: https://github.com/liuzechun/ReActNet,
mobilenet/1_step1 and mobilenet/2_step2, run.sh and train.py, the setting of 128 epochs. The paper
reports 69.4 % top-1: Liu et al., ECCV 2020 (arXiv:2003.03488).

What differs here is what differs in imagenet_react_18: their teacher is torchvision's ResNet-34,
ours the real-valued twin of Bi-Real Net 34, trained in the first stage; weight decay is on the
classifier's kernel, too; no colour ("lighting") noise; images lie in [-1, 1]; BatchNorm's momentum
and epsilon are larq-zoo's; 1-bit weights are clipped to [-1, 1].
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "model": {
                "name": "ReActNetA",
                "num_classes": 1000,
                "width": 32,
                "stem": "imagenet",
            },
            "dataset": {
                "image_size": 224,
                # RandomResizedCrop(224, scale=(0.08, 1)) and RandomHorizontalFlip.
                "augmentation": {"name": "random_resized_crop_flip"},
                # Resize(256) and CenterCrop(224).
                "center_crop": 224 / 256,
            },
            # Adam with default betas.
            "optimizer": {"name": "adam", "learning_rate": 1.25e-3},
            # LambdaLR, stepped before each epoch, so that the last one has a rate of 0.
            "schedule": {"name": "linear", "interval": "epoch"},
            "batch_size": 256,
            "stages": (
                {
                    "name": "teacher",
                    "model": {"name": "BiRealNet34Float", "width": 64, "activation": "relu"},
                    # ResNet's: He et al., CVPR 2016 (arXiv:1512.03385), Section 3.4. Epochs as
                    # in PyTorch's examples/imagenet with the same settings.
                    "optimizer": {
                        **{"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
                        "l2": 1e-4,
                    },
                    "schedule": {"name": "step", "milestones": (30 / 90, 60 / 90)},
                    "epochs": 90,
                },
                {
                    # 1-bit activations, real weights, --weight_decay=1e-5.
                    "name": "activations",
                    "binary_weights": False,
                    "start": "scratch",
                    "optimizer": {"l2": 1e-5},
                    # KD_loss.DistributionLoss: the teacher's probabilities are the labels.
                    "distillation": {"teacher": "teacher", "weight": 1.0},
                    "epochs": 128,
                },
                {
                    # 1-bit weights as well, --weight_decay=0.
                    "name": "weights",
                    "distillation": {"teacher": "teacher", "weight": 1.0},
                    "epochs": 128,
                },
            ),
            # Their label smoothing of 0.1 is created and never used.
            "label_smoothing": 0.0,
            "seed": 0,
        }
    )
