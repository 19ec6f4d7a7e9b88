"""Load the real torch_npu on a machine without CANN, over stub libraries with CANN's symbols that fail on every call.

The device type `npu` is then registered with all its operators, but there is no device: this shows what torch_npu
declares; nothing can be computed.

`WNV_TORCH_NPU=torch_npu-2.13.0-....whl python tests/npu_wheel/stub_cann.py COMMAND ...` runs a command that way. The
variable names a wheel (`pip download --no-deps torch-npu==2.13.0`) or a folder with an unpacked one; by default, an
installed torch_npu is used. With WNV_STUB_CANN=0 the command has torch_npu but no libraries, as without CANN's set-up.
"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

VARIABLE = "WNV_TORCH_NPU"
TOOLS = ("cc", "nm", "readelf")

# Symbols called while torch_npu loads. All others return 1, an error code of CANN.
ANSWERS = """
const char* aclGetRecentErrMsg(void) { return "stub libraries of CANN"; }
const char* aclrtGetSocName(void) { return "Ascend910B3"; }
int aclrtGetDeviceCount(unsigned* count) { *count = 0; return 0; }
int aclrtSetOpWaitTimeout(unsigned seconds) { return 0; }
#define FUNCTION(name, symbol) int name(void) __asm__(symbol); int name(void) { return 1; }
#define OBJECT(name, symbol) char name[512] __asm__(symbol) = {0};
"""


def why_not() -> str | None:
    """What is missing on this machine to load torch_npu over stub libraries, or None."""
    source = _source()
    if source is None:
        return f"no torch_npu here; pip download --no-deps torch-npu==VERSION, and name the wheel in {VARIABLE}"
    if not source.exists():
        return f"{VARIABLE} names no file: {source}"
    folder = _unpacked(source)
    torch, torch_npu = (".".join(version.split(".")[:2]) for version in (_version("torch"), _version_in(folder)))
    if torch != torch_npu:
        return f"torch_npu {torch_npu} does not go with torch {torch}"
    extension = f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not (folder / "torch_npu" / extension).exists():
        return f"torch_npu at {source} is for another Python or machine: it has no {extension}"
    missing = [name for name in TOOLS if shutil.which(name) is None]
    return f"stub libraries cannot be built: no {' and no '.join(missing)} here" if missing else None


def environment(*, has_libraries: bool = True) -> dict[str, str]:
    """Environment of a process with torch_npu, as if it were installed; requires that `why_not` returns None.

    Args:
        has_libraries: Whether CANN's (stub) libraries are found.
    """
    folder = _unpacked(_source())
    variables = _bare_environment() | {"PYTHONPATH": str(folder)}
    if has_libraries:
        variables["LD_LIBRARY_PATH"] = str(_libraries(folder))
    return variables


def _source() -> Path | None:
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).resolve()
    spec = importlib.util.find_spec("torch_npu")  # does not import it
    return None if spec is None else Path(spec.origin).parents[1]


def _bare_environment() -> dict[str, str]:
    """This process's environment without library paths of an installed CANN or a caller."""
    left_out = ("LD_LIBRARY_PATH", "PYTHONPATH", "TORCH_DEVICE_BACKEND_AUTOLOAD")
    return {
        name: value for name, value in os.environ.items() if name not in left_out and not name.startswith("ASCEND_")
    }


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _version_in(folder: Path) -> str:
    found = importlib.metadata.distributions(name="torch_npu", path=[str(folder)])
    return next((distribution.version for distribution in found), "of an unknown version")


def _cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wnv"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill; then renamed, unless another process was faster."""
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder.parent) as temporary:
        content = Path(temporary) / "content"
        content.mkdir()
        yield content
        with suppress(OSError) if folder.exists() else nullcontext():
            content.rename(folder)


def _unpacked(source: Path) -> Path:
    """The folder of the package; a wheel is unpacked once."""
    if source.is_dir():
        return source
    folder = _cache() / f"{source.stem}-{source.stat().st_size}"
    if not folder.exists():
        with _appearing(folder) as temporary, zipfile.ZipFile(source) as wheel:
            wheel.extractall(temporary)
    return folder


def _libraries(folder: Path) -> Path:
    """The folder of the stub libraries, built once per state of this file, torch and torch_npu."""
    state = f"{Path(__file__).read_text()} {_version('torch')} {_version_in(folder)} {sys.version}"
    target = _cache() / f"stub_cann-{hashlib.sha256(state.encode()).hexdigest()[:16]}"
    if not target.exists():
        # In a separate process, because torch's libraries are loaded to list their symbols.
        with _appearing(target) as temporary:
            command = [sys.executable, __file__, "--build", str(folder), str(temporary)]
            subprocess.run(command, env=_bare_environment(), check=True)
    return target


def _build(folder: Path, target: Path) -> None:
    own = [*folder.glob("torch_npu/lib/*.so"), *folder.glob("torch_npu/_C*.so"), *folder.glob("torch_npu.libs/*.so*")]
    needed = set().union(*(_needed(library) for library in own)) - {library.name for library in own}
    absent = [name for name in needed if not _is_loadable(name)]
    names = set().union(*(_symbols(library, "--undefined-only", "U") for library in own))
    names -= set().union(*(_symbols(library, "--defined-only", None) for library in own))
    everything = ctypes.CDLL(None)
    names = sorted(name for name in names if not hasattr(everything, name) and f" {name}(" not in ANSWERS)
    lines = [
        f'{"OBJECT" if name.startswith(("_ZTV", "_ZTI", "_ZTS")) else "FUNCTION"}(stub{number}, "{name}")'
        for number, name in enumerate(names)
    ]
    code = "\n".join([ANSWERS, *lines, ""])
    for name in absent:
        # The loader accepts a symbol from any library; torch_npu itself looks some up in this one.
        content = code if name == "libascendcl.so" else ""
        command = ["cc", "-shared", "-fPIC", "-w", "-o", str(target / name), f"-Wl,-soname,{name}", "-xc", "-"]
        subprocess.run(command, input=content, text=True, check=True)


def _is_loadable(name: str) -> bool:
    """Whether a library is found without CANN; if so, its symbols become global."""
    beside_torch = Path(importlib.util.find_spec("torch").origin).parent / "lib" / name
    try:
        ctypes.CDLL(str(beside_torch) if beside_torch.exists() else name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _needed(library: Path) -> set[str]:
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", _output("readelf", "-d", str(library))))


def _symbols(library: Path, which: str, kind: str | None) -> set[str]:
    lines = (line.split() for line in _output("nm", "-D", which, str(library)).splitlines() if line.strip())
    return {words[-1].split("@")[0] for words in lines if kind is None or words[-2] == kind}


def _output(*command: str) -> str:
    return subprocess.run(command, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    if sys.argv[1] == "--build":
        _build(Path(sys.argv[2]), Path(sys.argv[3]))
    elif (reason := why_not()) is not None:
        sys.exit(f"stub_cann.py: {reason}")
    else:
        has_libraries = os.environ.get("WNV_STUB_CANN") != "0"
        sys.exit(subprocess.run(sys.argv[1:], env=environment(has_libraries=has_libraries), check=False).returncode)
