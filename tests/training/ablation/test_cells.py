"""Which cells a study can have."""

import pytest

from bireal_keras.training import ablation


def test_all_of_them_the_papers_first():
    cells = ablation.select_cells()
    assert len(cells) == len(set(cells)) == 3 * 2 * 2 * 3
    assert str(cells[0]) == "per_conv-approx_sign-magnitude_aware-clip"


def test_some_of_them():
    cells = ablation.select_cells(
        shortcuts=["none", "per_conv"], weight_gradient=["plain"], start=["scratch"]
    )
    assert [str(cell) for cell in cells] == [
        "none-approx_sign-plain-scratch",
        "none-ste_sign-plain-scratch",
        "per_conv-approx_sign-plain-scratch",
        "per_conv-ste_sign-plain-scratch",
    ]


def test_those_of_the_papers_claims():
    assert {str(cell) for cell in ablation.select_cells("claims")} == {
        "per_conv-approx_sign-magnitude_aware-scratch",
        "per_conv-ste_sign-magnitude_aware-scratch",
        "resnet-approx_sign-magnitude_aware-scratch",
        "resnet-ste_sign-magnitude_aware-scratch",
        "none-approx_sign-magnitude_aware-scratch",
        "none-ste_sign-magnitude_aware-scratch",
        "per_conv-approx_sign-magnitude_aware-clip",
        "per_conv-approx_sign-magnitude_aware-relu",
        "per_conv-approx_sign-plain-scratch",
    }
    some = ablation.select_cells("claims", start=["clip", "relu"])
    assert [cell.start for cell in some] == ["clip", "relu"]


@pytest.mark.parametrize(
    ("arguments", "choices", "message"),
    [
        ([], {"shortcuts": ["both"]}, "`shortcuts` must be some of per_conv, .* Received: both"),
        ([], {"start": []}, "`start` must be some of clip, .* Received: none"),
        ([], {"width": ["8"]}, "An axis must be one of .*'shortcuts'.*: 'width'"),
        (["some"], {}, "`design` must be one of factorial, claims. Received: 'some'"),
        (
            ["claims"],
            {"shortcuts": ["none"], "start": ["clip"]},
            "The design 'claims' has no cell of these choices: none; clip",
        ),
    ],
)
def test_what_does_not_exist(arguments, choices, message):
    with pytest.raises(ValueError, match=message):
        ablation.select_cells(*arguments, **choices)
