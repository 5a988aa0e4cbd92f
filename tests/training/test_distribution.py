"""Several devices and machines: the same losses as one, and TF_CONFIG."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from bireal_keras import zoo
from bireal_keras._keras import keras, tf
from bireal_keras.training import distribution

WORKERS = ["host0:2222", "host1:2222"]


def tf_config(cluster={"worker": WORKERS}, **task):  # noqa: B006
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0, **task}})


@pytest.mark.parametrize(
    "text",
    [
        tf_config(),
        tf_config(index=1),
        tf_config({"chief": WORKERS[:1], "worker": WORKERS[1:]}, type="chief"),
        tf_config({"worker": ["[::1]:2222"]}),
    ],
)
def test_a_right_tf_config_passes(text):
    distribution.check_tf_config(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "It is not set"),
        ("", "It is not set"),
        ("{", "It is not JSON: Expecting"),
        ("[]", "Its `cluster` must have `worker`"),
        (tf_config({}), "Its `cluster` must have `worker`"),
        (tf_config({"worker": WORKERS, "ps": WORKERS}), "nothing else but `chief`"),
        (tf_config({"worker": []}), "Its `cluster.worker` must be a list of addresses"),
        (tf_config({"worker": "host0:2222"}), "Its `cluster.worker` must be a list of addresses"),
        (tf_config({"worker": ["host0"]}), "holds 'host0', which is not host:port"),
        (tf_config({"worker": [2222]}), "holds 2222, which is not host:port"),
        (tf_config(type="chief"), r"`task.type` must be one of \['worker'\], and is 'chief'"),
        (tf_config(index=2), r"`task.index` must be an int in \[0, 2\), and is 2"),
        (tf_config(index="0"), r"`task.index` must be an int in \[0, 2\), and is '0'"),
        (json.dumps({"cluster": {"worker": WORKERS}}), "`task.type` must be .* and is None"),
    ],
)
def test_what_is_wrong_with_tf_config_is_said(text, problem):
    with pytest.raises(ValueError, match=rf"TF_CONFIG must be like .*\. .*{problem}"):
        distribution.check_tf_config(text)


def test_other_strategies_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"`strategy` must be one of .*Received: strategy='two'"):
        distribution.create_strategy("two")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG must be like"):
        distribution.create_strategy("multi_worker")


def test_one_device_trains_the_model_itself():
    strategy = distribution.create_strategy("one")
    assert distribution.is_chief(strategy)
    assert distribution.num_machines(strategy) == 1
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    assert distribution.replicate(model, strategy) is model


@pytest.mark.slow
def test_replicas_have_the_same_weights_and_statistics_of_the_whole_batch():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    assert distribution.is_chief(strategy)
    model = zoo.BiRealNet18(input_shape=(8, 8, 3), num_classes=3, width=4, stem="cifar")
    with strategy.scope():
        replica = distribution.replicate(model, strategy)
    for expected, weight in zip(model.get_weights(), replica.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    norms = [layer for layer in replica.layers if layer.name.endswith("_bn")]
    assert len(norms) == 20
    assert all(norm.synchronized for norm in norms)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(replica(images), model(images), atol=1e-5)


def test_each_machine_is_asked_for_its_part():
    """Outside the strategy's scope, as training calls it."""
    contexts = []

    def batches(context):
        contexts.append(context)
        return tf.data.Dataset.from_tensor_slices([[1.0], [2.0]])

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    distributed = distribution.distribute(batches, strategy)
    assert [float(batch[0]) for batch in distributed] == [1, 2]
    [context] = contexts
    assert (context.num_input_pipelines, context.input_pipeline_id) == (1, 0)

    one = distribution.distribute(batches, distribution.create_strategy("one"))
    assert isinstance(one, tf.data.Dataset)
    assert contexts[1:] == [None]


class Resolver:
    """Of a cluster, as seen by one of its machines."""

    def __init__(self, cluster, role, index):
        self._cluster, self.task_type, self.task_id = cluster, role, index

    def cluster_spec(self):
        return tf.train.ClusterSpec(self._cluster)


@pytest.mark.parametrize(
    ("cluster", "writers"),
    [
        ({"worker": WORKERS}, [("worker", 0)]),
        ({"chief": WORKERS[:1], "worker": WORKERS[1:]}, [("chief", 0)]),
        ({"chief": ["host2:2222"], "worker": WORKERS}, [("chief", 0)]),
        ({"worker": WORKERS[:1]}, [("worker", 0)]),
    ],
)
def test_one_machine_writes(cluster, writers):
    """Beside a chief, worker 0 does not."""

    class Strategy:
        def __init__(self, role, index):
            self.cluster_resolver = Resolver(cluster, role, index)

    tasks = [(role, index) for role in cluster for index in range(len(cluster[role]))]
    assert [task for task in tasks if distribution.is_chief(Strategy(*task))] == writers


def test_the_batch_size_must_be_shared_evenly():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    distribution.check_batch_size(7, strategy)

    class Three:
        num_replicas_in_sync = 3

    with pytest.raises(ValueError, match=r"must be a multiple of 3.*Received: batch_size=8"):
        distribution.check_batch_size(8, Three())


@pytest.mark.parametrize(
    ("images", "batch_size", "devices", "expected"),
    [
        (11, 10, 1, 10),
        (12, 10, 2, 6),  # Of 10 and 2, of 8 and 4, one device would get all of the last.
        (11, 10, 2, 6),  # 6 and 5: 3 and 3, 3 and 2.
        (64, 32, 4, 32),
        (61, 32, 4, 32),  # 8, 8, 8 and 5.
        (56, 32, 4, 28),  # Of 32 and 24, one would get none of the last: 28 and 28.
        (1, 8, 2, 8),  # There is no such size.
    ],
)
def test_no_device_is_left_without_an_image(images, batch_size, devices, expected):
    class Strategy:
        num_replicas_in_sync = devices

    assert distribution.evaluation_batch_size(images, batch_size, Strategy()) == expected


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


# bireal-train, which notes in a file, argv[1], the path of each training image that it reads.
NOTES_WHAT_IT_READS = """
import dataclasses, os, sys

import tensorflow as tf

from bireal_keras.commands import train
from bireal_keras.training import data

notes = sys.argv.pop(1)


train_batches = data.train_batches


def noting(split, **arguments):
    def note(path):
        with open(notes, "ab") as file:
            file.write(path.numpy() + b"\\n")
        return path

    def read(path):
        return split.read(tf.ensure_shape(tf.py_function(note, [path], tf.string), ()))

    return train_batches(dataclasses.replace(split, read=read), **arguments)


data.train_batches = noting
train.run()
"""


@pytest.mark.proof
def test_two_machines_share_the_images_and_have_the_losses_of_one(photos, tiny_recipe, tmp_path):
    """On loopback. A low rate: at higher ones, rounding flips signs and curves part.

    There are 103 images to train and 11 to validate, which are not shared evenly.
    """
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    for index in range(6):
        (folder / "red" / f"{index}.png").unlink()

    def arguments(run_dir, notes):
        return [
            *(sys.executable, "-c", NOTES_WHAT_IT_READS, str(tmp_path / notes)),
            f"--config={tiny_recipe}",
            *(f"--dataset={folder}", f"--output_dir={run_dir}"),
            *("--config.epochs=2", "--config.batch_size=10", "--config.keep=best"),
            "--config.optimizer.learning_rate=0.001",
        ]

    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = [
        subprocess.Popen(
            [*arguments(tmp_path / "two", f"read{index}"), "--strategy=multi_worker"],
            env={**os.environ, "TF_CONFIG": tf_config({"worker": workers}, index=index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    (out, err), (other_out, other_err) = (process.communicate(timeout=300) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], err + other_err
    assert "epoch 2/2: " in out
    assert "keeping the weights of epoch " in out
    assert other_out == ""
    subprocess.run(
        arguments(tmp_path / "one", "read"), check=True, capture_output=True, timeout=300
    )

    # Two epochs: each machine reads half of the images, and together they read what one does.
    everything, *shares = (
        (tmp_path / name).read_text().splitlines() for name in ("read", "read0", "read1")
    )
    assert [len(share) for share in shares] == [100, 100]
    assert sorted(shares[0] + shares[1]) == sorted(everything)

    two, one = (read_log(tmp_path / name) for name in ("two", "one"))
    for column in ("loss", "accuracy", "learning_rate"):
        np.testing.assert_allclose(two[column], one[column], rtol=1e-4)
    # What the two find together is what the one that writes finds alone in the end. (One device
    # alone has other moving variances: Keras corrects those for the size of the batch.)
    alone = json.loads((tmp_path / "two" / "metrics.json").read_text())["validation"]
    best = int(np.argmax(two["val_accuracy"]))
    assert two["val_accuracy"][best] == pytest.approx(alone["accuracy"])
    assert two["val_loss"][best] == pytest.approx(alone["loss"], rel=1e-3)
    # What the two leave behind is one whole run.
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )
    model = keras.models.load_model(tmp_path / "two" / "model.keras")
    assert not any(getattr(layer, "synchronized", False) for layer in model.layers)


def read_log(run_dir):
    with (run_dir / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: [float(row[column]) for row in rows] for column in rows[0]}
