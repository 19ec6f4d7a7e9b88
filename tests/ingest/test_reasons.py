"""Every reason code has a description and a remedy that works."""

import re
from pathlib import Path

from omegaconf import OmegaConf

from wnv.ingest.reasons import explain
from wnv.ingest.tasks import STAGES

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf" / "ingest"

CODES = """gone geo login premium preview risk_control transient unsupported forbidden_address wrong_length too_large
corrupt empty_file too_short too_dark no_parallax few_frames no_video few_registered reprojection low_parallax focal
jump no_model timeout crashed out_of_memory error no_space read_only denied redo retry changed
missing missing_file node_lost node_without_root no_space_elsewhere no_access given_poses
interrupted duplicate frozen not_fetched taken_out few_photos
unsupported_photo""".split()


def test_every_reason_is_explained() -> None:
    unknown = explain("fetch", "brand_new")
    for stage in STAGES:
        for code in CODES:
            meaning, way_out = explain(stage, code)
            assert meaning != unknown[0], code
            assert "{" not in way_out
            assert way_out.count("`") % 2 == 0
            assert "retry=" not in way_out or f"retry=[{code}]" in way_out
    assert "`retry=[brand_new]`" in unknown[1]
    assert explain("fetch", "corrupt") != explain("clip", "corrupt")


def test_every_reason_that_a_stage_raises_is_explained() -> None:
    raised = set()
    for file in (ROOT / "wnv" / "ingest").rglob("*.py"):
        raised |= set(re.findall(r'StageError\(\s*"(?:refused|failed)",\s*"(\w+)"', file.read_text()))
    assert len(raised) > 8
    assert raised <= set(CODES)


def test_the_settings_that_are_named_exist() -> None:
    named = {
        name
        for stage in STAGES
        for code in CODES
        for name in re.findall(r"`((?:fetch|clip|pose|pack)\.[\w.]+)=", explain(stage, code)[1])
    }
    assert len(named) > 8
    for name in named:
        group, _, setting = name.partition(".")
        files = [OmegaConf.load(file) for file in [*(CONF / group).glob("*.yaml"), *CONF.glob(f"{group}_*.yaml")]]
        assert any(OmegaConf.select(file, setting, default="absent") != "absent" for file in files), name
