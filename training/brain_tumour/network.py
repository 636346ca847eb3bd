"""A 2.5-D U-Net that labels the middle one of five neighbouring slices."""

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # becomes ONNX Scan; torch is pinned for it
from torch.nn import functional
from training.brain_tumour.data import NEIGHBOURS, STACK

WIDTHS = (16, 32, 64, 96, 128)


def block(inputs: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    """Make two 3x3 convolutions, each with instance normalisation and leaky ReLU.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    dropout : float
        Chance that a whole channel of the output is dropped in training.

    Returns
    -------
    torch.nn.Sequential
        From (N, inputs, Y, X) to (N, outputs, Y, X).
    """
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.InstanceNorm2d(outputs, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers, *([nn.Dropout2d(dropout)] if dropout else []))


class UNet(nn.Module):
    """U-Net over stacks of slices.

    Parameters
    ----------
    widths : tuple of int
        Channels at each level, from full resolution down.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        deepest = len(widths) - 1
        self.down = nn.ModuleList(
            block(inputs, outputs, 0.15 if level >= deepest - 1 else 0.0)
            for level, (inputs, outputs) in enumerate(
                zip((STACK, *widths[:-1]), widths, strict=True)
            )
        )
        self.up = nn.ModuleList(
            block(widths[level] + widths[level + 1], widths[level]) for level in range(deepest)
        )
        self.head = nn.Conv2d(widths[0], 1, 1)
        nn.init.constant_(self.head.bias, -4.0)

    def forward(self, image: Tensor) -> Tensor:
        """Score the middle slice of each stack.

        Parameters
        ----------
        image : torch.Tensor
            float32 (N, STACK, Y, X), normalised; Y and X multiples of 16.

        Returns
        -------
        torch.Tensor
            (N, 1, Y, X), logits.
        """
        skips: list[Tensor] = []
        for level, down in enumerate(self.down):
            image = down(functional.max_pool2d(image, 2) if level else image)
            skips.append(image)
        image = skips.pop()
        for up in reversed(self.up):
            image = functional.interpolate(image, scale_factor=2.0, mode="nearest")
            image = up(torch.cat([skips.pop(), image], dim=1))
        return self.head(image)


class VolumeModel(nn.Module):
    """The exported model: volume in, probability out.

    The graph works through the slices one after the other, so memory hardly grows with Z.

    Parameters
    ----------
    members : list of UNet
        Networks whose probabilities are averaged, each seeing a slice and its mirror image.
    """

    def __init__(self, members: list[UNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def label_slice(self, stack: Tensor) -> Tensor:
        """Give the probability for the middle slice of one stack.

        Parameters
        ----------
        stack : torch.Tensor
            float32 (STACK, Y, X), normalised; Y and X multiples of 32.

        Returns
        -------
        torch.Tensor
            float32 (Y, X), in 0 to 1.
        """
        both = torch.stack([stack, stack.flip(-1)])
        mean = torch.stack([torch.sigmoid(member(both)) for member in self.members]).mean(0)
        return (mean[0, 0] + mean[1, 0].flip(-1)) / 2

    def forward(self, image: Tensor) -> Tensor:
        """Give the probability of enhancing tumour for each voxel.

        Parameters
        ----------
        image : torch.Tensor
            float32 (1, 1, Z, Y, X), normalised; Y and X multiples of 32.

        Returns
        -------
        torch.Tensor
            float32 (1, 1, Z, Y, X), in 0 to 1.
        """
        volume = image[0, 0]
        first, last = [volume[:1]] * NEIGHBOURS, [volume[-1:]] * NEIGHBOURS
        padded = torch.cat([*first, volume, *last])
        count = volume.shape[0]
        stacks = torch.stack([padded[k : k + count] for k in range(STACK)], dim=1)
        if not torch.compiler.is_exporting():
            return torch.stack([self.label_slice(stack) for stack in stacks])[None, None]

        def step(state: Tensor, stack: Tensor) -> tuple[Tensor, Tensor]:
            return state.clone(), self.label_slice(stack)

        _, labelled = scan(step, torch.zeros(1), stacks)
        return labelled[None, None]
