"""The predictions for Arm: work is counted as loops written out one by one count it."""

import collections
import itertools
import re

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from arm_prediction import arm_computers, arm_kernels, arm_steps
from lce_ops import (
    NONE,
    RELU,
    SAME,
    VALID,
    Bconv2d,
    Op,
    Tensor,
    build_model,
    constant,
    output_size,
    pack,
)


def axis(size: int, taps: int, stride: int, dilation: int = 1, padding: int = SAME):
    size_out, _ = output_size(size, taps, stride, dilation, padding)
    return arm_kernels.same_axis(size, size_out, taps, stride, dilation)


def last(window) -> int:
    """The last place of the map, or after it, that the output looks at."""
    return max(
        place * window.stride - window.before + tap * window.dilation
        for place in range(window.size_out)
        for tap in range(window.taps)
    )


def binary(height, width, words=2, filters=64, groups=1, ones=False):
    return arm_kernels.BinaryConvolution(height, width, words, filters, groups, ones)


def looked_at(height, width):
    """(place of the output, tap, whether it lies in the map) along both axes."""
    return [
        [
            (place, tap, 0 <= place * one.stride - one.before + tap * one.dilation < one.size_in)
            for place in range(one.size_out)
            for tap in range(one.taps)
        ]
        for one in (height, width)
    ]


SHAPES = [
    (axis(size, taps, stride, dilation, padding), axis(size + 3, taps, stride, dilation, padding))
    for size, taps, stride, dilation, padding in itertools.product(
        (1, 7, 8), (1, 3, 5), (1, 2), (1, 2), (SAME, VALID)
    )
    if padding == SAME or (taps - 1) * dilation < size
]


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("padding", [SAME, VALID])
def test_a_window_lies_where_tensorflow_puts_it(size, padding):
    for taps, stride, dilation in itertools.product((1, 2, 3), (1, 2), (1, 2)):
        size_out, before = output_size(size, taps, stride, dilation, padding)
        if size_out < 1:
            continue
        window = arm_kernels.same_axis(size, size_out, taps, stride, dilation)
        assert window.before == before
        inside = np.pad(np.ones(size, int), (before, size * taps * stride * dilation))
        starts = np.arange(size_out) * stride
        expected = sum(inside[starts + tap * dilation] for tap in range(taps))
        assert window.inside() == expected.tolist()


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_neon_counts_the_rows_in_the_image(height, width):
    words, filters, groups = 3, 96, 2
    rows, columns = looked_at(height, width)
    expected: collections.Counter[str] = collections.Counter()
    blocks = groups * 2  # 48 filters of a group are two blocks of 32.
    for first in range(0, width.size_out, 4):
        pixels = min(4, width.size_out - first)
        for _block in range(blocks):
            for _, _, row_inside in rows:
                # Each tap, half of a word, pixel and vector of 8 filters.
                units = width.taps * words * 2 * pixels * 4
                expected[f"neon {pixels}x32"] += units if row_inside else 0
            expected[f"neon {pixels}x32, floats"] += height.size_out
    with_ones = expected.copy()
    for _, _, row_inside in rows:
        spread = min(width.size_in, last(width) + 1)
        for counted in (expected, with_ones):
            counted["neon spread"] += spread * words * groups if row_inside else 0
        # Zeros beside the image are of a pixel each, ones above and below it of the whole row.
        for _, _, column_inside in columns:
            expected["neon border"] += filters // 8 if row_inside and not column_inside else 0
        with_ones["neon border"] += 0 if row_inside else width.taps * filters // 8
    one = (height, width, words, filters, groups)
    assert +binary(*one).units("neon", "floats") == +expected
    assert +binary(*one, ones=True).units("neon", "floats") == +with_ones


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_look_ups_are_of_pairs_of_pixels(height, width):
    words, filters = 3, 80
    rows, _ = looked_at(height, width)
    inside = sum(row_inside for _, _, row_inside in rows)
    expected: collections.Counter[str] = collections.Counter()
    for _block in range(3):  # 80 filters are three blocks of 32.
        for first in range(0, width.size_out, 4):
            pixels = min(4, width.size_out - first)
            pairs = len(range(0, pixels, 2))
            name = f"neon_lookup {pixels}x32"
            expected[f"{name}, counts"] += height.size_out
            for _ in range(inside):
                expected[name] += width.taps * words * 8 * pairs * 2
                expected[f"{name}, sums"] += len(range(0, width.taps * words * 8, 60))
    units = binary(height, width, words, filters).units("neon_lookup", "counts")
    assert {name: units[name] for name in expected} == dict(expected)
    left_pixels = range(0, width.size_out, 2)
    columns = 1 + left_pixels[-1] * width.stride + (width.taps - 1) * width.dilation
    assert units["neon_lookup positions"] == inside * columns * words * 8 // 16
    unpacked = min(width.size_in, columns + width.stride - width.before)
    assert units["neon_lookup unpack"] == inside * unpacked * words * 8 // 32


@pytest.mark.parametrize("kernel", ["neon", "neon_lookup"])
@pytest.mark.parametrize("stride", [1, 2])
def test_where_nothing_is_cut_off_binary_units_are_128_macs(kernel, stride):
    height, width = axis(13, 3, stride, 1, VALID), axis(4 * stride + 2, 3, stride, 1, VALID)
    units = binary(height, width, words=2, filters=128).units(kernel, "floats")
    macs = height.size_out * width.size_out * 9 * 64 * 128
    products = sum(count for name, count in units.items() if name.endswith("x32"))
    assert products * 128 == macs


@pytest.mark.parametrize(("taps", "stride", "width_out"), [(3, 1, 20), (3, 2, 12), (5, 1, 8)])
def test_where_nothing_is_cut_off_float_units_are_4_macs(taps, stride, width_out):
    height, width = axis(11, taps, stride), axis(width_out * stride, taps, stride)
    units = arm_kernels.float_convolution(height, width, 3, 64)
    macs = height.size_out * width_out * taps**2 * 3 * 64
    assert units["direct 4x16"] * 4 == macs
    assert units["direct 4x16, around"] == height.size_out * width_out // 4 * (64 // 16)


def test_groups_of_channels_have_blocks_of_their_own():
    height = width = axis(12, 3, 1)
    units = arm_kernels.float_convolution(height, width, channels_in=8, filters=32, groups=4)
    assert units["direct 4x8"] * 4 == 12 * 12 * 9 * 8 * 32
    assert units["direct 4x8, around"] == 12 * 3 * 4


def test_winograd_halves_the_products_of_the_imagenet_stem():
    height, width = axis(224, 7, 2), axis(192, 7, 2)  # 96 pixels are 6 tiles of 4 groups of 4.
    units = arm_kernels.float_convolution(height, width, 3, 64)
    assert units["winograd 4x16"] * 4 * 2 == 112 * 96 * 7 * 7 * 3 * 64
    assert units["winograd 4x16, around"] == 112 * 6 * 7 * (64 // 16)
    assert units["winograd transform"] == 224 * 24 * 7 * 2  # 6 values are two vectors.
    assert units["winograd interpolate"] == 112 * 24 * 6 * (64 // 4)


@pytest.mark.parametrize(("pixels", "tile"), [(1, "pixel 1x16"), (48, "pixels 4x16")])
def test_dense_units_are_4_macs(pixels, tile):
    assert arm_kernels.dense(pixels, 512, 160)[tile] * 4 == pixels * 512 * 160


def test_the_last_tile_of_pixels_is_whole():
    # 51 are 48 and 3: twelve tiles, and three pixels one by one. 53 are twelve tiles and two.
    assert arm_kernels.dense(51, 32, 16) == {
        "pixels 4x16": 12 * 4 * 32 * 4,
        "pixels 4x16, around": 12,
        "pixel 1x16": 3 * 32 * 4,
    }
    assert arm_kernels.dense(53, 32, 16)["pixels 4x16, around"] == 14


SIZE, CHANNELS = 8, 64


@pytest.fixture(scope="module")
def block() -> bytes:
    """A sign, and two 1-bit 3x3 convolutions with their shortcuts, with a sign between them."""
    shape = (1, SIZE, SIZE, CHANNELS)
    case = Bconv2d(*shape, CHANNELS)
    packed = Tensor((1, SIZE, SIZE, CHANNELS // 32), np.int32)
    constants = [constant(pack(case.kernel)), constant(case.multiplier), constant(case.bias)]
    tensors = [Tensor(shape), packed, *constants, Tensor(shape), Tensor(shape), packed]
    tensors += [Tensor(shape), Tensor(shape)]
    add = ("AddOptions", schema.AddOptionsT())
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceBconv2d", [1, 2, 3, 4, -1], [5], case.options),
        Op("ADD", [5, 0], [6], builtin=add),
        Op("LceQuantize", [6], [7]),
        Op("LceBconv2d", [7, 2, 3, 4, -1], [8], case.options),
        Op("ADD", [8, 6], [9], builtin=add),
    ]
    return build_model(tensors, ops, [0], [9])


MAP = SIZE**2 * CHANNELS * 4
SIGNS = MAP // 32
FILTERS = 9 * CHANNELS**2 // 8


def test_a_step_has_the_work_of_what_it_took_over(block):
    work = arm_steps.Model(block).delegated((1, 2, 3), "neon")
    convolution = binary(axis(SIZE, 3, 1), axis(SIZE, 3, 1), CHANNELS // 32, CHANNELS)
    assert work.units == convolution.units("neon", "floats with shortcut")
    assert work.constants == FILTERS + 2 * 4 * CHANNELS
    # Signs and the shortcut are read, the sum and its signs are written; the convolution is not.
    assert sorted(work.maps) == [SIGNS, SIGNS, MAP, MAP]


def test_what_is_before_and_after_the_sum_is_in_the_step(block):
    model = arm_steps.Model(block)
    assert model.delegated((0, 1, 2, 3), "neon").units == model.delegated((1, 2, 3), "neon").units


def test_a_scale_in_the_step_is_a_vector_for_four_values():
    shape = (1, SIZE, SIZE, CHANNELS)
    case = Bconv2d(*shape, CHANNELS)
    constants = [constant(pack(case.kernel)), constant(case.multiplier), constant(case.bias)]
    tensors = [Tensor((1, SIZE, SIZE, CHANNELS // 32), np.int32), *constants, Tensor(shape)]
    tensors += [constant(np.ones(CHANNELS, np.float32)), Tensor(shape)]
    ops = [
        Op("LceBconv2d", [0, 1, 2, 3, -1], [4], case.options),
        Op("MUL", [4, 5], [6], builtin=("MulOptions", schema.MulOptionsT())),
    ]
    units = arm_steps.Model(build_model(tensors, ops, [0], [6])).delegated((0, 1), "neon").units
    values = SIZE**2 * CHANNELS
    assert units["float32 elementwise"] == values // 4
    # A whole row of tiles of four pixels by 32 filters.
    assert units["neon 4x32, floats"] == values // 4 // 32


@pytest.mark.parametrize(
    ("channels_in", "filters", "activation", "expected"),
    [
        (64, 64, NONE, {"neon 4x32, floats": SIZE**2 // 4 * 2}),
        (64, 64, RELU, {"neon 4x32, clamped floats": SIZE**2 // 4 * 2}),
        (64, 48, NONE, {"neon 4x32, counts": SIZE**2 // 4 * 2, "store": SIZE**2 * 48 // 4}),
        (33, 32, NONE, {"neon 4x32, counts": SIZE**2 // 4, "store": SIZE**2 * 32 // 4}),
    ],
)
def test_tiles_make_floats_where_they_can(channels_in, filters, activation, expected):
    case = Bconv2d(1, SIZE, SIZE, channels_in, filters, activation=activation)
    packed = Tensor((1, SIZE, SIZE, -(-channels_in // 32)), np.int32)
    constants = [constant(pack(case.kernel)), constant(case.multiplier), constant(case.bias)]
    tensors = [packed, *constants, Tensor((1, SIZE, SIZE, filters))]
    op = Op("LceBconv2d", [0, 1, 2, 3, -1], [4], case.options)
    units = arm_steps.Model(build_model(tensors, [op], [0], [4])).delegated((0,), "neon").units
    stores = {
        name: count for name, count in units.items() if re.search("floats|counts|store", name)
    }
    assert stores == expected


def test_int8_weights_are_not_counted_as_floats():
    tensors = [Tensor((1, 6, 6, 8)), constant(np.ones((16, 1, 1, 8), np.int8))]
    tensors += [constant(np.ones(16, np.float32)), Tensor((1, 6, 6, 16))]
    options = ("Conv2DOptions", schema.Conv2DOptionsT())
    content = build_model(tensors, [Op("CONV_2D", [0, 1, 2], [3], builtin=options)], [0], [3])
    with pytest.raises(ValueError, match=r"CONV_2D with int8 weights: .* --float_ops=litert"):
        arm_steps.Model(content).delegated((0,), "neon")


def test_a_filter_for_look_ups_takes_twice_its_bytes(block):
    model = arm_steps.Model(block)
    work = model.delegated((1, 2, 3), "neon_lookup")
    assert work.constants - model.delegated((1, 2, 3), "neon").constants == FILTERS


def test_lce_runs_each_operator_by_itself(block):
    model = arm_steps.Model(block)
    works = [model.of_lce(node) for node in model.nodes]
    macs = 9 * SIZE**2 * CHANNELS**2
    assert works[1].units["LCE"] * 128 == macs
    # The patches: nine taps of two words for each pixel, by four words.
    assert works[1].units["float32 elementwise"] == 9 * SIZE**2 * 2 // 4
    assert works[2].units == {"float32 elementwise": SIZE**2 * CHANNELS // 4}
    assert sorted(works[2].maps) == [MAP, MAP, MAP]
    assert works[3].units == {"pack": SIZE**2 * CHANNELS // 4}


@pytest.mark.parametrize(("arithmetic", "lanes"), [("float32", 4), ("float16", 8)])
def test_others_convolutions_are_their_macs(arithmetic, lanes):
    weights = constant(np.ones((16, 3, 3, 8), np.float32))
    bias = constant(np.ones(16, np.float32))
    tensors = [Tensor((1, 6, 6, 8)), weights, bias, Tensor((1, 6, 6, 16))]
    options = ("Conv2DOptions", schema.Conv2DOptionsT())
    content = build_model(tensors, [Op("CONV_2D", [0, 1, 2], [3], builtin=options)], [0], [3])
    work = arm_steps.Model(content).interpreted(0, arithmetic, "smull")
    assert work.units == {f"{arithmetic} gemm": 36 * 9 * 8 * 16 // lanes}
    assert work.constants == (16 * 9 * 8 + 16) * 16 // lanes


def test_a_pool_looks_at_its_whole_window():
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = 3, 2
    tensors = [Tensor((1, 6, 6, 8)), Tensor((1, 3, 3, 8))]
    op = Op("MAX_POOL_2D", [0], [1], builtin=("Pool2DOptions", options))
    model = arm_steps.Model(build_model(tensors, [op], [0], [1]))
    assert model.interpreted(0, "float32", "smull").units == {"float32 elementwise": 9 * 8 * 6 // 4}
    assert model.delegated((0,), "neon").units == {"max": 9 * 8 * 6 // 4}


def test_a_step_takes_what_computing_or_memory_takes():
    computer = arm_computers.RASPBERRY_PI_4
    loop = arm_computers.LOOPS["float32 gemm"]
    cycles = 1000 * loop["cycles"]["cortex-a72"]
    work = arm_steps.Work(collections.Counter({"float32 gemm": 1000 * loop["units"]}))
    assert computer.milliseconds(work) == pytest.approx(cycles / 1.5e6)
    # What fits half of the cache is no traffic.
    work.maps = [2**19]
    assert computer.milliseconds(work) == pytest.approx(cycles / 1.5e6)
    work.constants, work.maps = 10**9, [2**20]
    assert computer.milliseconds(work) == pytest.approx((10**9 + 2**20) / 5e6)


def test_the_loops_are_no_faster_than_two_pipes():
    for name, loop in arm_computers.LOOPS.items():
        for cycles in loop["cycles"].values():
            assert cycles >= loop["vector_instructions"] / 2 - 0.01, name


@pytest.mark.parametrize("kernel", ["neon", "neon_lookup"])
def test_the_table_has_every_loop(kernel):
    names: set[str] = set()
    for height, width in SHAPES:
        for filters in (8, 64):
            for store in ("counts", "floats with shortcut", "clamped floats with shortcut"):
                names |= binary(height, width, filters=filters).units(kernel, store).keys()
            names |= arm_kernels.float_convolution(height, width, 3, filters).keys()
            names |= arm_kernels.dense(width.size_out, 16, filters).keys()
        stem = axis(height.size_in, 7, 2), axis(width.size_in, 7, 2)
        names |= arm_kernels.float_convolution(*stem, 3, 64).keys()
    assert names <= arm_computers.LOOPS.keys()


def test_a_model_is_predicted_step_by_step(block, tmp_path):
    path = tmp_path / "block.tflite"
    path.write_bytes(block)
    steps = arm_computers.steps_of(path, arm_computers.RASPBERRY_PI_4, "litert")
    assert [step.name for step in steps] == [
        "LceQuantize (op 0)",
        "LceBconv2d + ADD + LceQuantize (op 1 to 3)",
        "LceBconv2d + ADD (op 4 to 5)",
    ]
    model = arm_steps.Model(block)
    works = [model.delegated(nodes, "neon") for nodes in ((0,), (1, 2, 3), (4, 5))]
    assert [step.works for step in steps] == [[work] for work in works]
    computer = arm_computers.RASPBERRY_PI_4
    whole = arm_computers.total(steps, computer.milliseconds)
    assert whole == sum(map(computer.milliseconds, works)) > 0
