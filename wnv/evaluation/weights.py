"""From what a person calls a set of weights to the model."""

from pathlib import Path

from wnv.models.konet import KoNet
from wnv.models.pretrained import CONFIG_FILE
from wnv.training.checkpoint import load_model


def open_weights(source: str | Path) -> KoNet:
    """The model behind a name, ready to draw, on the CPU in float32.

    Args:
        source: Weights that come with the package (`konet_tiny`), a folder of saved weights (`config.json` and
            `model.safetensors`), a `.ckpt` file or the folder of a training run, or the id of a model on the
            Hugging Face hub (`owner/name`).

    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If the weights do not fit their configuration.
    """
    path = Path(source)
    if path.is_dir() and not any(path.iterdir()):
        raise FileNotFoundError(
            f"no weights in {path}: the folder is empty; give the folder of a run (with last.ckpt), or of saved "
            f"weights ({CONFIG_FILE} and model.safetensors)"
        )
    if path.is_file() or (path.is_dir() and not (path / CONFIG_FILE).is_file()):
        return load_model(path).eval()
    return KoNet.from_pretrained(source)
