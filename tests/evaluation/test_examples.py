import pytest
import torch

from wnv.evaluation.contact_sheet import GAP_PX
from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.examples import choose_examples, spread_by_index, spread_by_psnr, target_sheet
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.records import read_records

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_context", [3, 6])
def test_a_sheet_has_a_row_per_scene_and_a_column_per_image(dataset, copy_model, num_context):
    examples = [type(dataset)(2, num_context=num_context)[i] for i in range(2)]
    sheet = target_sheet(copy_model, examples, device=CPU, with_error=True)
    height, width = 160, 240
    assert sheet.shape[1] == (min(num_context, 4) + 4) * (width + GAP_PX) + GAP_PX
    assert sheet.shape[0] > 2 * height


def test_examples_are_spread_from_the_worst_to_the_best_and_over_the_data(dataset, grey_model, tmp_path):
    variants = [Variant("a", dataset), Variant("b", dataset), Variant("c", dataset, limit=3)]
    evaluate(grey_model, variants, device=CPU, out=tmp_path)
    records = read_records(tmp_path)
    order = sorted(records[:7], key=lambda record: record.mean("model", "psnr"))
    assert spread_by_psnr(records[:7], count=3) == [order[0].index, order[3].index, order[6].index]
    assert spread_by_index(records[:7], count=3) == [0, 3, 6]
    first, second, third = choose_examples(variants, records, count=3)
    assert first == second
    assert {*first} == {order[0].index, order[3].index, order[6].index, 0, 6}
    assert {*third} == {0, 1, 2}
