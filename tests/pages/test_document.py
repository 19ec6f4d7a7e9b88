"""A page holds together, and its policy names its own style and script and nothing else."""

import base64
import hashlib

import pytest
from page_checks import read_page

from wnv.pages.document import data_address, document
from wnv.pages.markup import element


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_what_is_written_and_nothing_else() -> None:
    picture = element("img", src=data_address(b"\xff\xd8", "image/jpeg"), alt="a")
    page = read_page(document(picture, "1 < 2", title="<b>", style="p { margin: 0; }", script="let a = 1 < 2;"))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    (style,), (script,) = page.texts["style"], page.texts["script"]
    assert style.endswith("\np { margin: 0; }")
    assert script == "let a = 1 < 2;"
    assert policy.split("; ") == [
        *("default-src 'none'", "img-src data:", "media-src data:"),
        f"style-src {digest(style)}",
        f"script-src {digest(script)}",
        *("base-uri 'none'", "form-action 'none'"),
    ]
    assert page.texts["title"] == ["<b>"]
    assert page.all("img")[0]["src"] == "data:image/jpeg;base64,/9g="


def test_a_page_without_a_script_may_run_none() -> None:
    text = document(title="a", style="")
    assert "script-src 'none'" in text
    assert "<script" not in text


def test_a_style_that_would_end_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="must not hold </style"):
        document(title="a", style="</style><p>")
