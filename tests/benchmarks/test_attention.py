from wnv.benchmarks.attention import run


def test_reports_every_comparison():
    table = run(
        dim=32,
        num_layers=1,
        num_heads=2,
        mlp_dim=32,
        image_size=(16, 24),
        context_sizes=(1, 3),
        training_sizes=((2, 1), (1, 2)),
        repeats=1,
        training_repeats=1,
    )
    assert list(table.figures) == ["render_1", "render_3", "train_2_1", "train_1_2", "encoding_overhead"]
    assert len(table.rows) == 5
    assert "6 tokens" in table.title
