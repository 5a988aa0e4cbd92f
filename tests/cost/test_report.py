"""The table and the JSON of a cost."""

import json

from bireal_keras.cost import Cost, LayerCost

COST = Cost(
    "net",
    (
        LayerCost("stem", "Conv2D", 0, 1000, 0, 10, 320),
        LayerCost("block", "QuantConv2D", 64000, 0, 900, 0, 900, "a note"),
    ),
)


def test_totals_and_ratios():
    total = COST.total
    assert (total.binary_macs, total.real_macs) == (64000, 1000)
    assert (total.binary_weights, total.real_weights, total.memory_bits) == (900, 10, 1220)
    assert total.flops == 2000
    assert COST.flops_ratio == 65000 / 2000
    assert COST.memory_ratio == 910 * 32 / 1220


def test_table():
    assert str(COST).splitlines() == [
        "layer  kind         binary MACs  real MACs  1-bit weights  real weights  kbit",
        "stem   Conv2D                        1,000                           10   0.3",
        "block  QuantConv2D       64,000                       900                 0.9",
        "total                    64,000      1,000            900            10   1.2",
        "",
        "net: 2.000e+03 FLOPs, 32.50 times fewer than in 32 bits (6.500e+04)",
        "net: 0.00 Mbit of weights, 23.87 times less than in 32 bits (0.03 Mbit)",
        "block: a note",
    ]


def test_json():
    content = json.loads(json.dumps(COST.as_dict()))
    assert content["name"] == "net"
    assert content["layers"][1] == {
        "name": "block",
        "kind": "QuantConv2D",
        "binary_macs": 64000,
        "real_macs": 0,
        "binary_weights": 900,
        "real_weights": 0,
        "memory_bits": 900,
        "note": "a note",
        "flops": 1000,
    }
    assert content["total"] == {
        "binary_macs": 64000,
        "real_macs": 1000,
        "binary_weights": 900,
        "real_weights": 10,
        "memory_bits": 1220,
        "flops": 2000,
    }
    assert content["flops_ratio"] == 32.5
