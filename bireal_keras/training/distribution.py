"""Training on several devices and machines with tf.distribute.

The batch size of a recipe is that of all devices together. Each takes its part of every batch,
BatchNorm's statistics are those of the whole batch, and so the loss is that of one device with
the same batch size.
"""

import json
import os
import re
from collections.abc import Callable

from bireal_keras import _keras_model
from bireal_keras._keras import keras, tf

STRATEGIES = ("one", "mirrored", "multi_worker", "tpu")


def create_strategy(name: str) -> tf.distribute.Strategy:
    """Makes a strategy: "one" device, "mirrored" on the GPUs of this machine, ...

    "multi_worker" connects the machines that the environment variable TF_CONFIG names, and
    waits for them. It has to come before TensorFlow runs its first operation.

    Raises:
        ValueError: no such strategy, TF_CONFIG is missing or malformed, or there is no TPU.
    """
    if name not in STRATEGIES:
        raise ValueError(f"`strategy` must be one of {STRATEGIES}. Received: strategy={name!r}.")
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker":
        check_tf_config(os.environ.get("TF_CONFIG"))
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        return _tpu_strategy()
    return tf.distribute.get_strategy()


def check_tf_config(text: str | None) -> None:
    """Checks TF_CONFIG: the workers' addresses, and which of them this is.

    Raises:
        ValueError: it is missing, is not JSON, or lacks a part.
    """
    problem = _problem_of(text)
    if problem:
        raise ValueError(
            "For strategy 'multi_worker' the environment variable TF_CONFIG must be like "
            f"{_EXAMPLE}. {problem}."
        )


_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def _problem_of(text: str | None) -> str | None:
    if not text:
        return "It is not set"
    try:
        config = json.loads(text)
    except ValueError as error:
        return f"It is not JSON: {error}"
    cluster = config.get("cluster") if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not {"worker"} <= set(cluster) <= {"chief", "worker"}:
        return "Its `cluster` must have `worker`, and nothing else but `chief`"
    for role, addresses in cluster.items():
        if not isinstance(addresses, list) or not addresses:
            return f"Its `cluster.{role}` must be a list of addresses"
        for address in addresses:
            if not isinstance(address, str) or not re.fullmatch(r".+:\d{1,5}", address):
                return f"Its `cluster.{role}` holds {address!r}, which is not host:port"
    task = config.get("task")
    role = task.get("type") if isinstance(task, dict) else None
    if role not in cluster:
        return f"Its `task.type` must be one of {sorted(cluster)}, and is {role!r}"
    index, count = task.get("index"), len(cluster[role])
    if type(index) is not int or not 0 <= index < count:
        return f"Its `task.index` must be an int in [0, {count}), and is {index!r}"
    return None


def _tpu_strategy() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:  # Each way of not having one has an error of its own.
        reason = " ".join(str(error).split())
        raise ValueError(f"Cannot use strategy 'tpu', no TPU answers: {reason}") from error


def num_machines(strategy: tf.distribute.Strategy) -> int:
    """How many processes train together."""
    resolver = strategy.cluster_resolver
    jobs = {} if resolver is None else resolver.cluster_spec().as_dict()
    return max(1, sum(len(addresses) for addresses in jobs.values()))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes: the only one, or the first of several machines'."""
    if num_machines(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def replicate(model: keras.Model, strategy: tf.distribute.Strategy) -> keras.Model:
    """`model` on each device of the strategy, with BatchNorm over the whole batch.

    On one device that is `model` itself. Call it inside `strategy.scope()`.
    """
    if not tf.distribute.has_strategy():
        return model

    def synchronized(layer: keras.layers.Layer) -> dict[str, bool]:
        return {"synchronized": True} if type(layer) is keras.layers.BatchNormalization else {}

    return _keras_model.clone(model, synchronized)


def distribute(
    batches: Callable[[tf.distribute.InputContext | None], tf.data.Dataset],
    strategy: tf.distribute.Strategy,
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """What `batches` returns, on one device for None, on several for each machine's part.

    It may be called outside `strategy.scope()`.
    """
    with strategy.scope():
        is_distributed = tf.distribute.has_strategy()
    if not is_distributed:
        return batches(None)
    return strategy.distribute_datasets_from_function(batches)


def evaluation_batch_size(images: int, batch_size: int, strategy: tf.distribute.Strategy) -> int:
    """The largest batch size up to `batch_size` with which no device is left without an image.

    Devices take equal parts of a batch, one after the other, and TensorFlow's CPU kernels fail on
    an empty part of the last batch. Where there is no such size, as for fewer images than
    devices, it is `batch_size`.

    Args:
        images: how many there are.
        batch_size: of all devices together.
        strategy: knows the devices.
    """
    devices = strategy.num_replicas_in_sync
    for size in range(batch_size - batch_size % devices, 0, -devices):
        last = images % size or size
        if last > size - size // devices:
            return size
    return batch_size


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Raises a ValueError unless every device gets the same number of images."""
    devices = strategy.num_replicas_in_sync
    if batch_size % devices:
        raise ValueError(
            f"`batch_size` must be a multiple of {devices}, the number of devices. "
            f"Received: batch_size={batch_size}."
        )
