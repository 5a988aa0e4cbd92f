"""QuickNet on ImageNet, from scratch, with Larq Zoo's numbers.

    bireal-train --config=imagenet_quicknet --dataset=imagenet2012 --data_dir=~/tfds \\
        --output_dir=runs/imagenet_quicknet

Source of the numbers: https://github.com/larq/zoo, larq_zoo/training, class TrainQuickNet in
sota_experiments.py. Its documentation reports 63.3 % top-1 and 84.6 % top-5. QuickNetSmall and
QuickNetLarge are trained in the same way (59.4 % and 66.9 %): --config.model.name=QuickNetLarge,
and for QuickNetSmall --config.model.width=32, too.

What differs here: their optimizer is two, Adam at 0.01 for 1-bit weights and SGD at 0.1 with
momentum 0.9 for all others, both with this schedule; a recipe has one, and Adam takes all. Images
are resized bilinearly, theirs bicubically, and lie in [-1, 1], where theirs have ImageNet's mean
and deviation.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "model": {
                "name": "QuickNet",
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
            "optimizer": {"name": "adam", "learning_rate": 1e-2},
            "schedule": {"name": "cosine", "warmup_epochs": 5},
            "epochs": 600,
            "batch_size": 2048,
            "label_smoothing": 0.0,
            "seed": 0,
        }
    )
