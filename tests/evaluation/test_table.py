from dataclasses import replace

from wnv.evaluation.confidence import Mean
from wnv.evaluation.summary import Summary, VariantSummary
from wnv.evaluation.table import summary_table

SCORES = {"psnr": Mean(21.666, 9.62), "ssim": Mean(0.7, 0.1)}
COPIES = {"psnr": Mean(12.0, 1.0), "ssim": Mean(0.3, 0.1)}
VARIANT = VariantSummary(
    variant="zoom=1",
    num_examples=3,
    num_scenes=3,
    num_views=4,
    num_listed=3,
    num_null=0,
    missing=(),
    model=SCORES,
    copy=COPIES,
    difference={"psnr": Mean(9.67, 8.0), "ssim": Mean(0.4, 0.1)},
    change=None,
    num_ahead=2,
    num_capped=0,
    encode_ms=10.0,
    render_ms=2.0,
    views_per_s=500.0,
)
SUMMARY = Summary(protocol="zoom", variants=(VARIANT,), num_listed=3, environment={"device": "cpu: test"})


def test_the_table_is_aligned_and_says_everything():
    table = summary_table(SUMMARY, name="KoNet")
    lines = table.splitlines()
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[2].split() == ["KoNet", "21.67", "±", "9.62", "0.7000", "±", "0.1000"]
    assert lines[3].startswith("nearest context view")
    assert "+9.67" in lines[4]
    assert "3 scenes, 4 target views; KoNet is ahead in 2 of 3." in table
    assert "2.0 ms per view (500.0 views/s; cpu: test)" in table
    assert not {"PARTIAL", "LPIPS", "100 dB", "Peak"} & set(table.split())


def test_each_variant_has_its_rows_and_its_change():
    zoomed = replace(VARIANT, variant="zoom=3", change={"psnr": Mean(-2.5, 0.5)}, num_views=6)
    lines = summary_table(replace(SUMMARY, variants=(VARIANT, zoomed), reference="zoom=1"), name="KoNet").splitlines()
    assert len({len(line) for line in lines[:9]}) == 1
    assert [line[:6].strip() for line in lines[2:9]] == ["zoom=1", "", "", "zoom=3", "", "", ""]
    assert lines[8].split() == ["KoNet,", "change", "from", "zoom=1", "-2.50", "±", "0.50"]
    assert "zoom=1: 3 scenes, 4 target views; KoNet is ahead in 2 of 3." in lines
    assert "zoom=3: 3 scenes, 6 target views; KoNet is ahead in 2 of 3." in lines


def test_caveats_are_listed():
    partial = replace(VARIANT, num_listed=12, num_null=2, missing=tuple("abcdefg"), num_capped=1, num_seen=3)
    table = summary_table(
        replace(
            SUMMARY,
            variants=(partial,),
            num_listed=12,
            num_null=2,
            missing=tuple("abcdefg"),
            peak_memory={"bytes": 3 << 20, "of": "resident"},
        )
    )
    for part in (
        "2 scenes of 12 listed",
        "PARTIAL: 3 of 10",
        "7 scenes (a, b, c, d, e, ...;",
        "1 view ",
        "3 MiB",
        "3 target views of 4 are context",
    ):
        assert part in table


def test_headings_name_the_backbone_of_lpips_and_masks():
    measured = replace(VARIANT, model={**SCORES, "lpips": Mean(0.1, 0.01), "psnr_masked": Mean(18.0, 1.0)})
    heads = summary_table(replace(SUMMARY, variants=(measured,), lpips_backbone="vgg")).splitlines()[0]
    assert "LPIPS (vgg)" in heads
    assert "PSNR dB masked" in heads


def test_lpips_that_was_not_measured_leaves_its_column_empty():
    lines = summary_table(replace(SUMMARY, lpips_note="it needs torchvision")).splitlines()
    assert lines[0].endswith("  LPIPS")
    assert all(line.endswith(" " * len("LPIPS")) for line in lines[2:5])
    assert any("it needs torchvision" in line for line in lines)
