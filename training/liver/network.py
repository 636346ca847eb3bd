"""A 2.5-D U-Net that tells left lobe, right lobe and vessels in the middle one of five slices."""

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # becomes ONNX Scan; torch is pinned for it
from torch.nn import functional
from training.brain_tumour.data import NEIGHBOURS, STACK
from training.brain_tumour.network import block
from training.liver.data import CLASSES

WIDTHS = (12, 24, 48, 72, 96)


class UNet(nn.Module):
    """U-Net over stacks of slices.

    Parameters
    ----------
    widths : tuple of int
        Channels at each level, from full resolution down.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            block(inputs, outputs)
            for inputs, outputs in zip((STACK, *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            block(widths[level] + widths[level + 1], widths[level])
            for level in range(len(widths) - 1)
        )
        self.head = nn.Conv2d(widths[0], CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Score the middle slice of each stack.

        Parameters
        ----------
        image : torch.Tensor
            float32 (N, STACK, Y, X), in 0 to 1; Y and X multiples of 16.

        Returns
        -------
        torch.Tensor
            (N, CLASSES, Y, X), logits; class 0 is what is not liver.
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
    """The exported model: volume in, probabilities out, slice by slice.

    Parameters
    ----------
    network : UNet
        The trained network.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Give the probability of each label for each voxel.

        Parameters
        ----------
        image : torch.Tensor
            float32 (1, 1, Z, Y, X), in 0 to 1; Y and X multiples of 16.

        Returns
        -------
        torch.Tensor
            float32 (1, 3, Z, Y, X): left lobe, right lobe, vessels. What is missing to a sum of 1
            is the probability that the voxel is not liver.
        """
        volume = image[0, 0]
        padded = torch.cat([*[volume[:1]] * NEIGHBOURS, volume, *[volume[-1:]] * NEIGHBOURS])
        count = volume.shape[0]
        stacks = torch.stack([padded[k : k + count] for k in range(STACK)], dim=1)

        def label(stack: Tensor) -> Tensor:
            return self.network(stack[None]).softmax(1)[0, 1:]

        if not torch.compiler.is_exporting():
            return torch.stack([label(stack) for stack in stacks], dim=1)[None]

        def step(state: Tensor, stack: Tensor) -> tuple[Tensor, Tensor]:
            return state.clone(), label(stack)

        _, labelled = scan(step, torch.zeros(1), stacks)
        return labelled.transpose(0, 1)[None]
