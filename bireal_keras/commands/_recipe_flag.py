"""The flag --config of the commands that train: a recipe, and --config.<field>=<value>."""

import re
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from bireal_keras import recipes
from bireal_keras.training import recipe

# The flag is the command's, and so its --help lists it.
flags.disclaim_key_flags()


def define() -> flags.FlagHolder:
    """Defines --config, which is required, as a flag of the calling module."""
    holder = config_flags.DEFINE_config_file(
        "config", None, "The recipe: a name from the list above or the path of a Python file."
    )
    flags.FLAGS["config"].parser = _RecipeParser()
    flags.mark_flag_as_required("config")
    return holder


class _RecipeParser(flags.ArgumentParser):
    """Accepts a recipe's name as well as a path, and says which field does not exist."""

    def parse(self, argument: str) -> ConfigDict:
        config = recipes.load(argument)
        for override in flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False):
            match = re.match(r"--?(?:no)?config\.([^=]+)", override)
            if match:
                recipe.make_settable(config, match[1])
        return config
