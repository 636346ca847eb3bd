"""Train the liver model.

Run from the project's root: ``python -m training.liver.train``.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from training.brain_tumour.train import follow
from training.liver.data import REAL, TRAINING, Sampler, phantom_scan, real_scan
from training.liver.network import UNet

CONSOLE = Console(width=100)


def loss_of(logits: Tensor, truth: Tensor, lobes: Tensor) -> Tensor:
    """Add cross-entropy and one minus the mean soft Dice; of the liver as a whole where need be.

    Parameters
    ----------
    logits : torch.Tensor
        (N, CLASSES, Y, X).
    truth : torch.Tensor
        int64 (N, Y, X).
    lobes : torch.Tensor
        bool (N,): whether the truth tells lobes and vessels apart, or only liver (1) and not.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    logits = logits.float()
    probability = logits.softmax(1)
    target = functional.one_hot(truth, logits.shape[1]).permute(0, 3, 1, 2).float()
    parts, goal = probability[lobes, 1:], target[lobes, 1:]
    overlap = 2 * (parts * goal).sum((0, 2, 3)) + 1
    loss = 1 - (overlap / (parts.sum((0, 2, 3)) + goal.sum((0, 2, 3)) + 1)).mean()
    loss = loss + functional.cross_entropy(logits[lobes], truth[lobes])
    if not bool(lobes.all()):
        liver = (1 - probability[~lobes, 0]).clamp(1e-5, 1 - 1e-5)
        whole = (truth[~lobes] > 0).float()
        loss = loss + 0.2 * functional.binary_cross_entropy(liver, whole)
        overlap = 2 * (liver * whole).sum() + 1
        loss = loss + 0.1 * (1 - overlap / (liver.sum() + whole.sum() + 1))
    return loss


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, default=REAL, help="folder of the real slices")
    parser.add_argument("--output", type=Path, default=Path("build/liver/1.pt"))
    parser.add_argument("--phantoms", type=int, default=len(TRAINING), help="at most so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate at the start")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--check", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    return parser.parse_args()


def main() -> None:
    """Train, keeping a checkpoint with the running average under ``average``."""
    args = arguments()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    torch.manual_seed(args.seed)
    model = UNet()
    average = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=1e-2)
    done, seconds = 0, 0.0
    if args.resume and args.output.exists():
        state = torch.load(args.output, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        done, seconds = state["step"], state["seconds"]
    seeds = TRAINING[: args.phantoms]
    phantoms = [phantom_scan(seed) for seed in track(seeds, "phantoms", console=CONSOLE)]
    sampler = Sampler(phantoms, [real_scan(args.real)], args.seed + 1000 * done)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    losses, part, step, began = [], 0.0, done, time.monotonic()
    while part < 1:
        step += 1
        spent = seconds + time.monotonic() - began
        part = min(1.0, max(step / args.steps, spent / 60 / args.minutes))
        optimiser.param_groups[0]["lr"] = args.rate * min(1.0, step / 100) * (1 - part) ** 0.9
        image, truth, lobes = sampler.batch(args.batch)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(image)
        loss = loss_of(logits, truth, lobes)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        follow(average, model, step)
        losses.append(float(loss.detach()))
        if step % args.check and part < 1:
            continue
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "seconds": seconds + time.monotonic() - began,
        }
        unfinished = args.output.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(args.output)
        mean = sum(losses) / len(losses)
        CONSOLE.print(f"{step} loss {mean:.4f} {state['seconds'] / 60:.1f} min")
        losses.clear()


if __name__ == "__main__":
    main()
