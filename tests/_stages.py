"""Stages run on rows, in whatever company."""

import numpy as np
import torch


def run(stages, rows):
    """Embeddings after all stages."""
    carry, embeddings = rows if isinstance(rows, torch.Tensor) else torch.tensor(rows), []
    for stage in stages:
        carry, embedding = stage(carry)
        embeddings.append(embedding)
    return embeddings


def in_sixteens(stages, rows):
    """The same, computed 16 by 16."""
    with torch.inference_mode():
        parts = [run(stages, chunk.clone()) for chunk in rows.split(16)]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def check_rows_are_kept_apart(stages, rows, reference, n_groups, n_threads):
    """Some rows, in another order and on so many threads, have the bits of the reference."""
    order = np.random.RandomState(n_groups).permutation(len(rows))
    chosen = torch.tensor(order[: 16 * n_groups])
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with torch.inference_mode():
            computed = run(stages, rows.index_select(0, chosen))
    finally:
        torch.set_num_threads(before)
    for one, expected in zip(computed, reference, strict=True):
        assert torch.equal(one, expected[chosen])
