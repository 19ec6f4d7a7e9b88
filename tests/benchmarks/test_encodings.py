import pytest

from wnv.benchmarks.encodings import EQUAL_TIME, run

SMALL = dict(
    seeds=(0, 1),
    num_steps=4,
    batch_size=2,
    num_train_scenes=4,
    num_test_scenes=3,
    image_size=(16, 24),
    num_target=2,
    dim=32,
    num_layers=1,
    num_heads=2,
    warmup_steps=1,
)


@pytest.mark.slow
def test_every_variant_is_trained_once_per_seed_for_equal_steps():
    table = run(**SMALL)
    assert [row[0] for row in table.rows] == [
        "nearest context view, copied",
        "none",
        "plucker",
        "gta",
        "geope",
        "geope and camray",
        "geope, joint",
        EQUAL_TIME,
    ]
    assert all(len(scores) == 2 for scores in table.figures["psnr"].values())
    for name in ("none", "plucker", "gta", "geope", "geope, joint"):
        assert table.figures["steps"][name] == [4, 4]


@pytest.mark.parametrize(
    ("variants", "message"),
    [(("none", "rayrope"), "got rayrope"), ((EQUAL_TIME, "geope"), "must name geope before")],
)
def test_variants_that_cannot_be_compared_are_errors(variants, message):
    with pytest.raises(ValueError, match=message):
        run(**SMALL, variants=variants)
