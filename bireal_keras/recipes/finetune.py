"""A few hundred photos of your own, from the weights that come with the package: minutes on a CPU.

    bireal-train --config=finetune --dataset=photos --output_dir=runs/photos

From another run, of any number of classes: --config.start=runs/photos. How much it brings, and what
has been tried: docs/photos.md.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            # As the weights were trained; the number of classes is the folder's.
            "model": {"name": "BiRealNet18", "width": 32, "stem": "cifar"},
            "start": "BiRealNet18:cifar10",
            "dataset": {
                "image_size": 32,
                # 8 to 100 % of the area, mirrored: of few photos, many different ones.
                "augmentation": {"name": "random_resized_crop_flip"},
            },
            "optimizer": {"name": "adam", "learning_rate": 1e-4},
            "schedule": {"name": "cosine", "warmup_epochs": 0},
            # The head first, so that its random weights do not spoil the others: Kumar et al.,
            # ICLR 2022 (arXiv:2202.10054). Then all at a low rate, since each 1-bit weight that
            # flips changes what the layers after it were trained for.
            "stages": (
                {
                    "name": "head",
                    "freeze": "body",
                    "epochs": 8,
                    "optimizer": {"learning_rate": 1e-2},
                },
                {"name": "all", "freeze": "batch_norm", "epochs": 16},
            ),
            "balance": True,
            "batch_size": 16,
            "label_smoothing": 0.1,
            "keep": "best",
            "seed": 0,
        }
    )
