"""From patch features and label embeddings to a label map, without ever holding labels x height x width.

>>> logits_hwK = patch_logits(features_PD, labels_KD, (28, 28))
>>> label_map(logits_hwK, (1024, 1024)).labels_HW

Importing this package imports neither torch nor triton.
"""

from clippy_core.kernels.dispatch import IMPLEMENTATIONS, label_map
from clippy_core.kernels.logits import patch_logits
from clippy_core.kernels.result import LabelMap
from clippy_core.kernels.softmax import softmax_label_map

__all__ = ["IMPLEMENTATIONS", "LabelMap", "label_map", "patch_logits", "softmax_label_map"]
