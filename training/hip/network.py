"""The hip models: a detector that finds hips by their middles, and a classifier of one hip."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from training.hip.data import SIDES, SIZE

from overread.simulator.pelvis import STATES

STRIDE = 4
"""Pixels of the detector's input for each cell of its grid."""
FOUND = 16
"""Boxes that the exported detector gives, best first."""


def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Make a 3x3 convolution with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class HipDetector(nn.Module):
    """Tell for every cell how likely it is a hip's middle, and where that hip's edges are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(layer(1, 12, 2), layer(12, 24, 2), layer(24, 24))
        self.second = nn.Sequential(layer(24, 48, 2), layer(48, 48))
        self.third = nn.Sequential(layer(48, 64, 2), layer(64, 64))
        self.fourth = nn.Sequential(layer(64, 96, 2), layer(96, 96))
        self.up = nn.ModuleList([layer(96 + 64, 64), layer(64 + 48, 48), layer(48 + 24, 32)])
        self.heat = nn.Sequential(layer(32, 32), nn.Conv2d(32, len(SIDES), 1))
        self.edges = nn.Sequential(layer(32, 32), nn.Conv2d(32, 4, 1))
        nn.init.constant_(self.heat[-1].bias, -4.0)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score every cell.

        Parameters
        ----------
        image : torch.Tensor
            float32 (N, 1, SIZE, SIZE), in 0 to 1.

        Returns
        -------
        tuple of torch.Tensor
            Logits (N, 2, SIZE / 4, SIZE / 4), right hip first, and distances from the cell's middle
            to the left, upper, right and lower edge (N, 4, SIZE / 4, SIZE / 4), in pixels.
        """
        levels = [self.stem(image)]
        for down in (self.second, self.third, self.fourth):
            levels.append(down(levels[-1]))
        out = levels.pop()
        for up in self.up:
            out = functional.interpolate(out, scale_factor=2.0, mode="nearest")
            out = up(torch.cat([levels.pop(), out], dim=1))
        return self.heat(out), functional.softplus(self.edges(out)) * 16


class BoxModel(nn.Module):
    """The exported detector: picture in, boxes and scores out."""

    def __init__(self, network: HipDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Find hips.

        Parameters
        ----------
        image : torch.Tensor
            float32 (1, 1, SIZE, SIZE), in 0 to 1, bone bright.

        Returns
        -------
        tuple of torch.Tensor
            Boxes (1, FOUND, 4), x0, y0, x1, y1 in pixels, and scores (1, FOUND, 2), right hip and
            left hip; cells that a neighbour outdoes score 0.
        """
        heat, edges = self.network(image)
        heat = heat.sigmoid()
        heat = heat * (functional.max_pool2d(heat, 3, 1, 1) == heat)
        side = SIZE // STRIDE
        place = (torch.arange(side) + 0.5) * STRIDE
        x, y = place.expand(side, side), place[:, None].expand(side, side)
        boxes = torch.stack(
            [x - edges[:, 0], y - edges[:, 1], x + edges[:, 2], y + edges[:, 3]], dim=-1
        )
        scores = heat.permute(0, 2, 3, 1).reshape(1, -1, len(SIDES))
        best = scores.amax(-1).topk(FOUND, dim=1).indices[..., None]
        boxes = boxes.reshape(1, -1, 4).gather(1, best.expand(-1, -1, 4)).clamp(0, SIZE)
        return boxes, scores.gather(1, best.expand(-1, -1, len(SIDES)))


class HipClassifier(nn.Module):
    """Normal, fracture or hardware, from the region of one hip."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            layer(1, 16),
            layer(16, 24, 2),
            layer(24, 24),
            layer(24, 48, 2),
            layer(48, 48),
            layer(48, 64, 2),
            layer(64, 64),
            layer(64, 96, 2),
            layer(96, 96),
        )
        self.head = nn.Linear(2 * 96, len(STATES))
        self.drop = nn.Dropout(0.2)

    def forward(self, image: Tensor) -> Tensor:
        """Score the states.

        Parameters
        ----------
        image : torch.Tensor
            float32 (N, 1, REGION, REGION), in 0 to 1, bone bright.

        Returns
        -------
        torch.Tensor
            (N, 3), logits in the order of STATES.
        """
        out = self.body(image)
        pooled = torch.cat([out.mean((2, 3)), out.amax((2, 3))], dim=1)
        return self.head(self.drop(pooled))


class StateModel(nn.Module):
    """The exported classifier: a hip's region in, the probability of each state out."""

    def __init__(self, network: HipClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Give probabilities (1, 3) for a region (1, 1, REGION, REGION)."""
        return self.network(image).softmax(1)
