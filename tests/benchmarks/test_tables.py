import json

from wnv.benchmarks.tables import Table, describe_machine

TABLE = Table(title="Speed", columns=("what", "ms"), rows=[("a long name", "1"), ("b", "200")], figures={"a": 1.0})


def test_markdown_is_aligned():
    assert TABLE.to_markdown().splitlines() == [
        "Speed",
        "",
        "| what        | ms  |",
        "| ----------- | --- |",
        "| a long name | 1   |",
        "| b           | 200 |",
    ]


def test_the_machine_is_described_by_processor_and_accelerator(monkeypatch):
    monkeypatch.setattr("wnv.benchmarks.tables._processor_name", lambda: "Abacus 9")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Slide Rule X")
    assert describe_machine().startswith("Abacus 9, ")
    assert ", Slide Rule X, torch " in describe_machine()


def test_json_names_the_machine(tmp_path):
    TABLE.write_json(tmp_path / "speed.json")
    content = json.loads((tmp_path / "speed.json").read_text())
    assert content["figures"] == {"a": 1.0}
    assert "torch" in content["machine"]
    assert content["machine"] == describe_machine()
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]
