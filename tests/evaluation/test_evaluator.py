import json
import math

import numpy as np
import pytest
import torch

from wnv.data.synthetic import SyntheticDataset
from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.records import read_records
from wnv.evaluation.table import summary_table
from wnv.types import collate

CPU = torch.device("cpu")


def slow_copy_psnr(example) -> list[float]:
    """PSNR of the nearest context view, written out in numpy."""
    context, target = example.context, example.target
    poses = context.cameras.camtoworld.double().numpy()
    centers = poses[:, :3, 3]
    spread = np.linalg.norm(centers - centers.mean(0), axis=1).mean()
    scores = []
    for view in range(len(target.times)):
        pose = target.cameras.camtoworld[view].double().numpy()
        distances = []
        for other in poses:
            cosine = (np.trace(pose[:3, :3].T @ other[:3, :3]) - 1) / 2
            distance = np.linalg.norm(pose[:3, 3] - other[:3, 3]) / spread
            distances.append(distance + math.acos(min(1, max(-1, cosine))))
        copied = context.images[int(np.argmin(distances))].double().numpy()
        mse = ((copied - target.images[view].double().numpy()) ** 2).mean()
        scores.append(10 * math.log10(1 / mse))
    return scores


def assert_same_scores(one, other) -> None:
    assert [(r.index, r.scene) for r in one] == [(r.index, r.scene) for r in other]
    for a, b in zip(one, other, strict=True):
        for who in ("model", "copy"):
            for metric in ("psnr", "ssim"):
                assert getattr(a, who)[metric] == pytest.approx(getattr(b, who)[metric], abs=1e-5)


def test_a_copy_model_scores_what_slow_numpy_says(dataset, copy_model, tmp_path):
    summary = evaluate(copy_model, dataset, device=CPU, out=tmp_path, batch_size=3)
    records = read_records(tmp_path)
    expected = [slow_copy_psnr(dataset[i]) for i in range(len(dataset))]
    for record, psnr in zip(records, expected, strict=True):
        assert record.model["psnr"] == pytest.approx(psnr, abs=1e-4)
        assert record.copy == record.model
    assert summary.main.model["psnr"].mean == pytest.approx(np.mean(expected), abs=1e-4)
    assert summary.main.difference["psnr"].mean == 0
    assert summary.main.num_ahead == 0


def test_a_perfect_model_is_capped_and_counted(dataset, perfect_model, tmp_path):
    summary = evaluate(perfect_model, dataset, device=CPU, out=tmp_path)
    assert summary.main.model["psnr"].mean == 100.0
    assert summary.main.model["ssim"].mean == pytest.approx(1.0)
    assert summary.main.num_capped == summary.main.num_views == 14
    assert summary.main.num_ahead == 7
    assert "14 views equal to the truth or nearly so, counted as 100 dB" in summary_table(summary)
    json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)


def test_neither_batch_size_nor_views_per_call_changes_the_scores(dataset, grey_model, tmp_path):
    evaluate(grey_model, dataset, device=CPU, out=tmp_path / "a", batch_size=1, views_per_call=1)
    evaluate(grey_model, dataset, device=CPU, out=tmp_path / "b", batch_size=4, views_per_call=9)
    batches = [collate([dataset[0], dataset[1], dataset[2]]), *(dataset[i] for i in range(3, 7))]
    evaluate(grey_model, batches, device=CPU, out=tmp_path / "c")
    straight = read_records(tmp_path / "a")
    assert len(straight) == 7
    for other in ("b", "c"):
        assert_same_scores(read_records(tmp_path / other), straight)


@pytest.mark.parametrize("batched", [False, True])
def test_a_resumed_evaluation_equals_the_straight_one(dataset, grey_model, tmp_path, batched):
    class Killed(Exception):
        pass

    def stop_after_four(record) -> None:
        if record.index == 3:
            raise Killed

    def examples():
        return [collate([dataset[i] for i in pair]) for pair in ([0, 1], [2, 3, 4], [5, 6])] if batched else dataset

    straight = evaluate(grey_model, examples(), device=CPU, out=tmp_path / "straight", settings={"data": "random"})
    out = tmp_path / "resumed"
    with pytest.raises(Killed):
        evaluate(
            grey_model,
            examples(),
            device=CPU,
            out=out,
            settings={"data": "random"},
            batch_size=2,
            on_record=stop_after_four,
        )
    assert 4 <= len(read_records(out)) < 7
    assert not (out / "summary.json").exists()
    path = out / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-7])  # killed in the middle of a line, too
    left = len(read_records(out))
    dataset.loaded.clear()
    resumed = evaluate(grey_model, examples(), device=CPU, out=out, settings={"data": "random"}, resume=True)
    if not batched:
        assert dataset.loaded == list(range(left, 7))
    assert_same_scores(read_records(out), read_records(tmp_path / "straight"))
    assert resumed.main.num_scenes == 7
    assert resumed.main.model["psnr"].mean == pytest.approx(straight.main.model["psnr"].mean, abs=1e-5)


def test_a_finished_evaluation_resumes_to_itself_without_drawing(dataset, copy_model, tmp_path):
    evaluate(copy_model, dataset, device=CPU, out=tmp_path)
    copy_model.num_encoded = 0
    summary = evaluate(copy_model, dataset, device=CPU, out=tmp_path, resume=True)
    assert copy_model.num_encoded == 0
    assert summary.main.num_scenes == 7


def test_changed_data_are_noticed_on_resume(dataset, copy_model, tmp_path):
    examples = [dataset[i] for i in range(3)]
    evaluate(copy_model, examples, device=CPU, out=tmp_path)
    with pytest.raises(ValueError, match="scene 0 was scene-0 when the evaluation began and is scene-2 now"):
        evaluate(copy_model, examples[::-1], device=CPU, out=tmp_path, resume=True)


def test_without_a_folder_nothing_is_written(dataset, copy_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = evaluate(copy_model, dataset, device=CPU, settings={"data": "random"})
    assert list(tmp_path.iterdir()) == []
    assert summary.settings == {"data": "random"}
    assert summary.provenance["device"].startswith("cpu")
    assert summary.main.render_ms > 0


def test_a_model_that_draws_no_images_is_named(dataset, grey_model):
    class Diverged(type(grey_model)):
        def render(self, scene, cameras, times=None):
            return super().render(scene, cameras, times) * float("nan")

    class Small(type(grey_model)):
        def render(self, scene, cameras, times=None):
            return super().render(scene, cameras, times)[..., :-1]

    with pytest.raises(ValueError, match=r"scene scene-0: the model must draw finite images .* 2304 values"):
        evaluate(Diverged(), [dataset[0]], device=CPU)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 16, 24\), got shape \(2, 3, 16, 23\)"):
        evaluate(Small(), [dataset[0]], device=CPU)


def test_no_examples_is_an_error(copy_model):
    with pytest.raises(ValueError, match="data set is empty"):
        evaluate(copy_model, [], device=CPU)


def test_context_of_another_size_cannot_be_copied(dataset, grey_model):
    from dataclasses import replace

    example = dataset[0]
    small = replace(example, context=replace(example.context, images=example.context.images[..., :8]))
    with pytest.raises(ValueError, match=r"of one size \(height, width\), got \(16, 8\) and \(16, 24\)"):
        evaluate(grey_model, [small], device=CPU)


@pytest.mark.slow
def test_loading_in_other_processes_changes_nothing(grey_model, tmp_path):
    data = SyntheticDataset(
        num_scenes=5, seed=3, image_size=(16, 24), num_context=2, num_target=2, zoom_range=(1.0, 2.0)
    )
    evaluate(grey_model, data, device=CPU, out=tmp_path / "here", batch_size=2)
    evaluate(grey_model, data, device=CPU, out=tmp_path / "there", batch_size=2, num_workers=2)
    assert_same_scores(read_records(tmp_path / "there"), read_records(tmp_path / "here"))
