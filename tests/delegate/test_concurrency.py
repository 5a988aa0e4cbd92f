"""Many interpreters at once give what one alone gives."""

import threading
from concurrent.futures import ThreadPoolExecutor

import ai_edge_litert.interpreter as litert
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from lce_ops import RELU, Bconv2d, Op, Tensor, build_model, constant, pack

from bireal_keras import runtime

INTERPRETERS = 64
THREADS = 8
ROUNDS = 10

CASES = [
    Bconv2d(1, 7, 7, 64, 96, seed=1),
    Bconv2d(2, 9, 5, 33, 40, strides=(2, 2), pad_values=1, output="packed", seed=2),
    Bconv2d(1, 6, 6, 128, 64, output="int8", activation=RELU, seed=3),
    Bconv2d(1, 14, 14, 32, 32, dilations=(2, 2), seed=4),
]


class Session:
    """An interpreter and what it is asked: inputs of the first tensor, one for each round."""

    def __init__(self, model: bytes, inputs: list[np.ndarray], delegate):
        self.interpreter = litert.Interpreter(
            model_content=model, experimental_delegates=[delegate]
        )
        self.interpreter.allocate_tensors()
        self.inputs = inputs
        self.outputs = []

    def run(self, round_: int) -> None:
        self.interpreter.set_tensor(
            self.interpreter.get_input_details()[0]["index"], self.inputs[round_]
        )
        self.interpreter.invoke()
        index = self.interpreter.get_output_details()[0]["index"]
        self.outputs.append(self.interpreter.get_tensor(index))


def residual_block() -> tuple[bytes, tuple[int, ...]]:
    """float -> sign -> convolution + shortcut -> sign, in one fused step."""
    shape = (1, 8, 8, 64)
    case = Bconv2d(*shape, 64, seed=5)
    tensors = [
        Tensor(shape),
        Tensor((1, 8, 8, 2), np.int32),
        constant(pack(case.kernel)),
        constant(case.multiplier),
        constant(case.bias),
        Tensor(shape),
        Tensor(shape),
    ]
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceBconv2d", [1, 2, 3, 4, -1], [5], case.options),
        Op("ADD", [5, 0], [6], builtin=("AddOptions", schema.AddOptionsT())),
    ]
    return build_model(tensors, ops, [0], [6]), shape


def jobs() -> list[tuple[bytes, list[np.ndarray], int]]:
    """(model, inputs, threads of the delegate) for every interpreter."""
    random = np.random.default_rng(0)
    block, shape = residual_block()
    result = []
    for index in range(INTERPRETERS):
        if index % 5 == 4:
            model = block
            inputs = [random.normal(size=shape).astype(np.float32) for _ in range(ROUNDS)]
        else:
            case = CASES[index % 5]
            model = case.model()
            signs = [random.choice([-1, 1], case.inputs.shape) for _ in range(ROUNDS)]
            inputs = [pack(values) for values in signs]
        result.append((model, inputs, 1 + index % 2))
    return result


def test_64_interpreters_on_8_threads():
    work = jobs()
    expected = []
    for model, inputs, _ in work:
        session = Session(model, inputs, runtime.load_delegate())
        for round_ in range(ROUNDS):
            session.run(round_)
        expected.append([output.tobytes() for output in session.outputs])

    # All are created at once, too; and none is done before all of them have begun.
    together = threading.Barrier(THREADS)

    def create_and_run(first: int) -> list[list[bytes]]:
        together.wait(timeout=60)
        sessions = [
            Session(model, inputs, runtime.load_delegate(num_threads=threads))
            for model, inputs, threads in work[first::THREADS]
        ]
        together.wait(timeout=60)
        for round_ in range(ROUNDS):
            for session in sessions:
                session.run(round_)
        return [[output.tobytes() for output in session.outputs] for session in sessions]

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(create_and_run, range(THREADS)))
    for first, outputs in enumerate(results):
        assert outputs == expected[first::THREADS]
    # Equal outputs would prove little if rounds or interpreters gave the same.
    assert len({output for outputs in expected for output in outputs}) == INTERPRETERS * ROUNDS


def test_interpreters_share_a_delegate():
    case = CASES[0]
    expected = case.expected().tobytes()
    delegate = runtime.load_delegate(num_threads=2)
    sessions = [Session(case.model(), [pack(case.inputs)], delegate) for _ in range(THREADS)]

    def run(session: Session) -> None:
        for _ in range(200):
            session.run(0)

    # Not a pool: nobody need wait for threads that hang.
    threads = [threading.Thread(target=run, args=[session], daemon=True) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for session in sessions:
        assert [output.tobytes() for output in session.outputs] == [expected] * 200
