"""The flag --camera: a number, or the path of a video file or a device."""

import os

from absl import flags

# The flag is the command's, and so its --help lists it.
flags.disclaim_key_flags()


def define(default: int | None, text: str) -> flags.FlagHolder:
    """Defines --camera as a flag of the calling module."""
    # Without it, the default 0 of a flag that can do without a value is shown as false.
    shown: flags.ArgumentSerializer = flags.ArgumentSerializer()
    return flags.DEFINE(_CameraParser(), "camera", default, text, serializer=shown, boolean=True)


class _CameraParser(flags.ArgumentParser):
    """--camera is the first one, --camera=1 the next, --camera=cat.mp4 a file."""

    syntactic_help = "a number from 0, a video file or a device"

    def parse(self, argument: str | int | None) -> int | str | None:
        if argument in (None, "false"):
            return None
        text = "0" if argument == "true" else str(argument)
        return int(text) if text.isdecimal() else os.path.expanduser(text)
