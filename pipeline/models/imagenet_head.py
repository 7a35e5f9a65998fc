"""Tells from the last layer of a network whether its 1,000 classes are ImageNet's, in that order.

Classes that look alike get rows of weights that point alike, whatever network is trained: a missile
is near a projectile, a cello near a violin. So the cosines (of rows less their mean) of some pairs
of classes, far apart in the order, stand out among those of all pairs where the classes are
ImageNet's, and nowhere else. Their mean lies 7 to 11 standard deviations above that of all pairs in
SqueezeNet, MobileNetV2 and EfficientNet-Lite0, with pairs found in the two others; it lies below
0.4 with the rows in any other order or drawn at random, below 0.8 with all moved by a few places.
"""

from __future__ import annotations

import torch

PAIRS = (
    (657, 744), (482, 848), (435, 876), (461, 524), (664, 782), (413, 764), (602, 702), (400, 667),
    (810, 878), (486, 889), (620, 681), (513, 875), (101, 385), (422, 543), (484, 871), (601, 689),
    (907, 966), (431, 516), (432, 683), (345, 690), (619, 846), (947, 992), (155, 204), (108, 393),
    (402, 546), (751, 817), (631, 838), (567, 909), (494, 577), (504, 968), (724, 780), (700, 999),
    (548, 598), (174, 261), (409, 892), (515, 808), (222, 257), (407, 734), (713, 742), (928, 960),
    (725, 899), (440, 737), (429, 981), (508, 673), (636, 748), (445, 638), (579, 881), (935, 962),
    (165, 236), (472, 693), (595, 856), (180, 243), (164, 210), (829, 874), (0, 389), (454, 624),
    (427, 756), (547, 705), (507, 695), (436, 656), (205, 256), (156, 218), (718, 821), (74, 815),
)  # fmt: skip
"""Classes of ImageNet that look alike, each the other's nearest of those 25 places away or more."""

YES, NO = 2.0, 1.0
"""From so many standard deviations on the classes are ImageNet's; below so many they are not."""


def likeness(weight: torch.Tensor) -> float:
    """Say how far the pairs that are alike in ImageNet stand out in a last layer.

    Parameters
    ----------
    weight : Tensor (1000, channels)
        A row for each class.

    Returns
    -------
    float
        Mean cosine of `PAIRS` less that of all pairs, in standard deviations of all pairs; 0 where
        all rows are equal.
    """
    rows = weight.detach().double()
    rows = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
    cosines = rows @ rows.T
    others = cosines[~torch.eye(len(rows), dtype=torch.bool)]
    first, second = torch.tensor(PAIRS).T
    spread = float(others.std())
    if not spread > 0:  # nor a number
        return 0.0
    return float(cosines[first, second].mean() - others.mean()) / spread
