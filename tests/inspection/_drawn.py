"""Labels that are words; entries of legends, and where texts are drawn."""

import numpy as np

WORDS = np.array(["ant", "bee", "cow", "dog"])


def labels_of(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def overlap(texts, figure):
    """Whether any two texts that are drawn cover each other."""
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[i + 1 :])


def inside(texts, figure):
    """Whether all texts are within the figure."""
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in texts]
    return all(
        box.x0 >= -1
        and box.y0 >= -1
        and box.x1 <= figure.bbox.x1 + 1
        and box.y1 <= figure.bbox.y1 + 1
        for box in boxes
    )
