"""Recognize a torchvision that was built for another torch: Lightning imports it, and so fails with it."""

import re
from importlib.metadata import PackageNotFoundError, version

_INDEX = "https://download.pytorch.org/whl"


def broken_torchvision(error: BaseException | None) -> str | None:
    """Return what is wrong and how to fix it if an import of torchvision caused an error; None otherwise."""
    seen = set()  # the context of an error may lead back to it
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = error.__traceback__
        while frames is not None:
            module = str(frames.tb_frame.f_globals.get("__name__"))
            if module.partition(".")[0] == "torchvision" and frames.tb_frame.f_code.co_name == "<module>":
                return _describe(error)
            frames = frames.tb_next
        error = error.__cause__ or error.__context__
    return None


def _describe(error: BaseException) -> str:
    try:
        torch, torchvision = version("torch"), version("torchvision")
    except PackageNotFoundError:
        return f"torchvision cannot be imported ({error}); remove it: pip uninstall torchvision"
    build = torch.partition("+")[2]
    index = f" --index-url {_INDEX}/{build}" if build else ""
    # torch 2.N belongs to torchvision 0.(N + 15).
    minor = re.match(r"2\.(\d+)", torch)
    release = f"==0.{int(minor[1]) + 15}.*" if minor else ""
    return (
        f"torchvision {torchvision} does not fit torch {torch} ({error}), and Lightning imports it; install the "
        f"matching build: pip install --force-reinstall --no-deps 'torchvision{release}'{index}, or remove it: "
        "pip uninstall torchvision"
    )
