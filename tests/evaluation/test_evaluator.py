import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import TrajectorySampler
from wnv.evaluation.environment import fingerprint
from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.images import to_u8
from wnv.evaluation.protocols.cases import Case, Variant
from wnv.evaluation.ranks import Ranks
from wnv.evaluation.records import read_records
from wnv.evaluation.summary import Listing, read_summary
from wnv.evaluation.table import summary_table
from wnv.metrics.image import LPIPS
from wnv.models.konet import KoNet
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo, safe_id
from wnv.synthetic.dataset import SyntheticDataset

CPU = torch.device("cpu")


def untimed(record):
    """A record without the fields that differ between runs."""
    return replace(record, encode_ms=0.0, render_ms=0.0)


def assert_same_scores(one, other) -> None:
    assert [(r.index, r.scene) for r in one] == [(r.index, r.scene) for r in other]
    for a, b in zip(one, other, strict=True):
        for who in ("model", "copy"):
            for metric in ("psnr", "ssim"):
                assert getattr(a, who)[metric] == pytest.approx(getattr(b, who)[metric], abs=1e-5)


def test_neither_batch_size_nor_views_per_call_changes_the_scores(dataset, grey_model, tmp_path):
    evaluate(grey_model, dataset, device=CPU, out=tmp_path / "a", batch_size=1, views_per_call=1)
    evaluate(grey_model, dataset, device=CPU, out=tmp_path / "b", batch_size=4, views_per_call=9)
    evaluate(grey_model, [dataset[i] for i in range(7)], device=CPU, out=tmp_path / "c")
    straight = read_records(tmp_path / "a")
    assert len(straight) == 7
    for other in ("b", "c"):
        assert_same_scores(read_records(tmp_path / other), straight)


def test_a_resumed_evaluation_equals_the_straight_one_to_the_last_digit(dataset, tmp_path, monkeypatch):
    settings = {"data": "random"}
    model = KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32)
    straight = evaluate(model, dataset, device=CPU, out=tmp_path / "straight", settings=settings, batch_size=3)
    out = tmp_path / "resumed"
    encode, calls = model.encode, iter(range(3))  # the warm-up and two batches
    monkeypatch.setattr(model, "encode", lambda context: (next(calls), encode(context))[1])
    with pytest.raises(StopIteration):
        evaluate(model, dataset, device=CPU, out=out, settings=settings, batch_size=3, show_progress=True)
    monkeypatch.undo()
    assert len(read_records(out)) == 6
    assert not (out / "summary.json").exists()
    path = out / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-7])  # killed in the middle of a line, too
    dataset.loaded.clear()
    resumed = evaluate(model, dataset, device=CPU, out=out, settings=settings, batch_size=3, resume=True)
    assert dataset.loaded == [3, 4, 5, 6], "the batch that lacked one is rendered whole, and no other"
    assert [untimed(record) for record in read_records(out)] == [
        untimed(record) for record in read_records(tmp_path / "straight")
    ]
    assert resumed.main.model == straight.main.model
    assert resumed.main.difference == straight.main.difference
    dataset.loaded.clear()
    evaluate(model, dataset, device=CPU, out=out, settings=settings, batch_size=3, resume=True)
    assert dataset.loaded == [], "a finished evaluation renders nothing"


def test_changed_data_are_detected_on_resume(dataset, copy_model, tmp_path):
    examples = [dataset[i] for i in range(3)]
    evaluate(copy_model, examples, device=CPU, out=tmp_path)
    with pytest.raises(ValueError, match=r"example 0 .*scene-0 .*scene-2"):
        evaluate(copy_model, examples[::-1], device=CPU, out=tmp_path, resume=True)


def test_every_target_and_its_truth_are_saved_and_completed_by_a_resume(dataset, grey_model, tmp_path):
    options = {"device": CPU, "out": tmp_path, "batch_size": 3}
    evaluate(grey_model, [Thinned(dataset, 2)], **options)
    assert not (tmp_path / "images").exists()
    evaluate(grey_model, [Thinned(dataset, 2)], **options, save_images=True, resume=True)
    kinds = [tmp_path / "images" / kind for kind in ("rendered", "truth")]
    for folder in kinds:
        written = sorted(str(path.relative_to(folder)) for path in folder.glob("**/*.png"))
        assert written == [f"scene-{i}/color/{frame:06d}.png" for i in range(7) for frame in (8, 9)]
    target = dataset[4].target
    rendered, truth = (Image.open(folder / "scene-4/color/000009.png") for folder in kinds)
    np.testing.assert_array_equal(np.asarray(truth), to_u8(target.images[1]))
    np.testing.assert_array_equal(np.asarray(rendered), to_u8(grey_model.render(None, target.cameras)[1]))
    shutil.rmtree(tmp_path / "images/truth/scene-4")
    dataset.loaded.clear()
    evaluate(grey_model, [Thinned(dataset, 2)], **options, save_images=True, resume=True)
    assert dataset.loaded == [3, 4, 5]
    assert (tmp_path / "images/truth/scene-4/color/000008.png").is_file()
    (tmp_path / "images/notes.txt").write_text("mine")
    evaluate(grey_model, [Thinned(dataset, n) for n in (1, 2)], **options, save_images=True, overwrite=True)
    assert {path.name for path in (tmp_path / "images/rendered").iterdir()} == {"views=1", "views=2"}
    evaluate(grey_model, dataset, **options, overwrite=True)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match="save_images"):
        evaluate(grey_model, dataset, device=CPU, save_images=True)


@pytest.mark.parametrize("is_known", [True, False])
def test_examples_of_one_scene_are_saved_in_folders_of_their_own(dataset, grey_model, tmp_path, is_known):
    examples = [replace(dataset[i], scene="a b") for i in range(2)]
    data = examples if is_known else torch.utils.data.ConcatDataset([examples])
    evaluate(grey_model, data, device=CPU, out=tmp_path, save_images=True)
    names = sorted(path.name for path in (tmp_path / "images/rendered").iterdir())
    assert names == [f"{safe_id('a b')}-00000{i}" for i in range(2)]


def test_without_a_folder_nothing_is_written(dataset, copy_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = evaluate(copy_model, dataset, device=CPU, settings={"data": "random"})
    assert list(tmp_path.iterdir()) == []
    assert summary.settings == {"data": "random"}
    assert summary.environment["device"].startswith("cpu")
    assert summary.environment["date"].endswith("+00:00")
    commit = summary.environment["commit"]
    assert commit is None or len(commit.removesuffix("-dirty")) == 12
    assert summary.main.render_ms > 0
    assert summary.main.views_per_s > 0
    assert 2**20 < summary.peak_memory["bytes"] < 2**40


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: images * float("nan"), r"scene scene-0: .*finite images .* 2304 values"),
        (lambda images: images[..., :-1], r"shape \(2, 3, 16, 24\), got shape \(2, 3, 16, 23\)"),
    ],
)
def test_a_model_that_renders_no_images_is_reported(dataset, grey_model, monkeypatch, spoil, message):
    render = grey_model.render
    monkeypatch.setattr(grey_model, "render", lambda *arguments: spoil(render(*arguments)))
    with pytest.raises(ValueError, match=message):
        evaluate(grey_model, [dataset[0]], device=CPU)


class Thinned(Variant):
    """The examples with fewer context views, with frame numbers, and with masks of 1, 2, ... pixel rows."""

    def __init__(self, dataset, num_context: int, **options) -> None:
        super().__init__(f"views={num_context}", dataset, **options)
        self.num_context = num_context

    def __getitems__(self, indices) -> list[Case]:
        return [self._thin(case, index) for case, index in zip(super().__getitems__(indices), indices, strict=True)]

    def _thin(self, case: Case, index: int) -> Case:
        masks = torch.zeros(2, 16, 24, dtype=torch.bool)
        masks[0, : index + 1] = True
        return Case(
            replace(case.example, context=case.example.context[: self.num_context]),
            context_frames=tuple(range(self.num_context)),
            target_frames=(8, 9),
            masks=masks,
        )


def test_variants_are_scored_each_and_compared(dataset, copy_model, tmp_path):
    variants = [Thinned(dataset, n, listing=Listing(9, 1, ("lost",))) for n in (1, 3)]
    summary = evaluate(copy_model, variants, device=CPU, out=tmp_path, protocol="nested", reference="views=1")
    records = read_records(tmp_path)
    assert [record.key for record in records] == [(f"views={n}", i) for n in (1, 3) for i in range(7)]
    assert (records[7].context_frames, records[7].target_frames) == ([0, 1, 2], [8, 9])
    gains = [b.mean("model", "psnr") - a.mean("model", "psnr") for a, b in zip(records[:7], records[7:], strict=True)]
    three = summary.variants[1]
    assert three.change["psnr"].mean == pytest.approx(np.mean(gains))
    assert (summary.protocol, summary.num_listed, summary.num_null, summary.missing) == ("nested", 9, 1, ["lost"])
    assert "PARTIAL: 7 of 8 listed scenes" in summary_table(summary)
    assert read_summary(tmp_path) == summary


def test_masked_scores_stand_beside_the_others(dataset, copy_model, slow_copies, tmp_path):
    evaluate(copy_model, [Thinned(dataset, 3)], device=CPU, out=tmp_path)
    for record in read_records(tmp_path):
        example = dataset[record.index]
        copied = example.context.images[slow_copies(example)[0]]
        rows = slice(0, record.index + 1)
        mse = ((copied - example.target.images[0]).double()[:, rows] ** 2).mean().item()
        assert record.model["psnr_masked"] == [pytest.approx(10 * math.log10(1 / mse), abs=1e-4), None]
        assert record.model["ssim_masked"][1] is None
        assert (record.model["ssim_masked"][0] is None) == (record.index < 5), "no window is whole above row 5"
        assert record.mean("model", "psnr_masked") == record.model["psnr_masked"][0]


def test_examples_with_different_numbers_of_views_keep_their_order(dataset, grey_model, tmp_path):
    examples = [replace(e, target=e.target[: 1 + i % 2]) for i, e in enumerate(dataset[i] for i in range(5))]
    summary = evaluate(grey_model, examples, device=CPU, out=tmp_path, batch_size=4)
    assert [len(record.model["psnr"]) for record in read_records(tmp_path)] == [1, 2, 1, 2, 1]
    assert summary.main.num_views == 7


def test_lpips_is_recorded_only_if_measured(dataset, grey_model, tmp_path):
    class Darkness(LPIPS):
        def __init__(self):
            self.backbone = "vgg"

        def __call__(self, rendered, truth):
            return truth.mean((-1, -2, -3)) - rendered.mean((-1, -2, -3))

    with_it = evaluate(grey_model, dataset, device=CPU, out=tmp_path / "a", lpips=Darkness())
    record = read_records(tmp_path / "a")[2]
    rendered = grey_model.render(None, dataset[2].target.cameras)
    assert record.model["lpips"] == pytest.approx(
        (dataset[2].target.images - rendered).mean((1, 2, 3)).tolist(), abs=1e-6
    )
    assert with_it.lpips_backbone == "vgg"
    without = evaluate(grey_model, dataset, device=CPU, out=tmp_path / "b", lpips_note="it needs torchvision")
    assert "lpips" not in read_records(tmp_path / "b")[2].model
    assert "lpips" not in without.main.model
    assert without.lpips_backbone is None
    assert "it needs torchvision" in summary_table(without)


def test_invalid_calls(dataset, copy_model):
    with pytest.raises(ValueError, match=r"2 processes .*out"):
        evaluate(copy_model, dataset, device=CPU, ranks=Ranks(rank=0, world_size=2))
    with pytest.raises(ValueError, match="empty"):
        evaluate(copy_model, [], device=CPU)
    with pytest.raises(ValueError, match=r"batch_size .*0"):
        evaluate(copy_model, dataset, device=CPU, batch_size=0)


def test_an_error_while_loading_is_raised_unchanged(dataset, copy_model):
    class Broken(Variant):
        def __getitems__(self, indices):
            raise FileNotFoundError("scene-3 is gone")

    with pytest.raises(FileNotFoundError, match=r"^scene-3 is gone$"):
        evaluate(copy_model, [Broken("", dataset)], device=CPU)


def test_the_fingerprint_follows_the_tensors():
    model = KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32)
    before = fingerprint(model)
    assert before == fingerprint(model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert fingerprint(model) != before


@pytest.mark.slow
def test_workers_change_neither_scores_nor_errors(grey_model, tmp_path):
    data = SyntheticDataset(num_scenes=5, seed=3, image_size=(16, 24), num_context=2, num_target=2)
    evaluate(grey_model, data, device=CPU, out=tmp_path / "here", batch_size=2)
    evaluate(grey_model, data, device=CPU, out=tmp_path / "there", batch_size=2, num_workers=2)
    assert_same_scores(read_records(tmp_path / "there"), read_records(tmp_path / "here"))
    frames = tuple(Frame(time_s=i, K=np.diag([30.0, 30.0, 1.0]), camtoworld=np.eye(4)) for i in range(3))
    info = SceneInfo(id="a", kind="static", width=24, height=16, frames=frames)
    path = write_scene(tmp_path / "scenes", info, [np.zeros((16, 24, 3), np.uint8)] * 3)
    dataset = SceneDataset(root=tmp_path / "scenes", sampler=TrajectorySampler(num_context=1), image_size=(16, 24))
    path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        evaluate(grey_model, [Variant("", dataset)], device=CPU, num_workers=1)
    assert "Traceback" not in str(error.value)
