"""Pairs of images to match: all, those near in time, or those that look alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Features that the vocabulary is made from, and its size. It is made anew for every set, so nothing is downloaded.
_NUM_TRAINING_FEATURES = 100_000
_FEATURES_PER_WORD = 40
_MAX_WORDS = 4096
_EMBEDDING_SIZE = 64


def frame_pairs(num_frames: int, *, overlap: int, exhaustive_up_to: int, loop_every: int) -> list[tuple[int, int]]:
    """Return the frame pairs to match, as sorted positions.

    COLMAP's sequential matching with quadratic overlap, and loop closure without a vocabulary tree.
    """
    if num_frames <= exhaustive_up_to:
        return [(first, second) for first in range(num_frames) for second in range(first + 1, num_frames)]
    gaps = {*range(1, overlap + 1), *(2**power for power in range(num_frames.bit_length()))}
    pairs = {(first, first + gap) for gap in gaps for first in range(num_frames - gap)}
    if loop_every:
        anchors = range(0, num_frames, loop_every)
        pairs |= {(first, second) for first in anchors for second in anchors if first < second}
    return sorted(pairs)


def similar_pairs(
    pycolmap: Any,
    database: Path,
    names: Sequence[str],
    *,
    num_similar: int,
    seed: int,
    num_threads: int,
    workspace: Path,
) -> set[tuple[int, int]]:
    """Return the pairs of each image with those that share most visual words with it, as sorted positions.

    Images are compared by a bag of visual words (Sivic and Zisserman, ICCV 2003) with Hamming embedding, as COLMAP's
    vocabulary tree does (Schönberger et al., ACCV 2016), but with words from the images themselves.

    Args:
        pycolmap: The module.
        database: Database with the SIFT features of the images.
        names: Names of the images; positions refer to them.
        num_similar: Number of images to pair with each.
        seed: Seed of the choice of features.
        num_threads: CPU threads; the pairs do not depend on them.
        workspace: Folder for a temporary file.
    """
    pycolmap.set_random_seed(seed)
    with pycolmap.Database.open(database) as opened:
        positions = {name: position for position, name in enumerate(names)}
        images = {image.image_id: positions[image.name] for image in opened.read_all_images()}
        found = [opened.read_descriptors(number).data for number in sorted(images)]
        features = np.concatenate(found).astype(np.float32) if found else np.empty((0, 128), dtype=np.float32)
        num_words = min(_MAX_WORDS, len(features) // _FEATURES_PER_WORD)
        if num_words < 1:
            return set()
        chosen = np.random.default_rng(seed).permutation(len(features))[:_NUM_TRAINING_FEATURES]
        index = pycolmap.VisualIndex.create(features.shape[1], min(_EMBEDDING_SIZE, features.shape[1]))
        build = pycolmap.VisualIndex.BuildOptions(
            num_visual_words=min(num_words, len(chosen) // _FEATURES_PER_WORD),
            num_iterations=10,
            num_rounds=1,
            num_threads=num_threads,
        )
        sift = pycolmap.FeatureExtractorType.SIFT
        index.build(build, pycolmap.FeatureDescriptorsFloat(sift, features[np.sort(chosen)]))
        file = workspace / "vocabulary.bin"
        index.write(file)
        options = pycolmap.VocabTreePairingOptions(
            vocab_tree_path=file, num_images=num_similar + 1, num_threads=num_threads
        )
        pairs = pycolmap.VocabTreePairGenerator(options, opened).all_pairs()
    # The most similar image is the image itself.
    ordered = (sorted((images[first], images[second])) for first, second in pairs)
    return {(first, second) for first, second in ordered if first != second}
