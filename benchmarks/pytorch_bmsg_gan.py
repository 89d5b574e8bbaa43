r"""Time the authors' own BMSG-GAN in PyTorch, one training step after another.

compare_with_pytorch.py runs it; alone:

  git clone https://github.com/akanimax/BMSG-GAN
  python benchmarks/pytorch_bmsg_gan.py --source=BMSG-GAN/sourcecode \
    --resolution=32 --mode=compile --precision=bfloat16
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional

MODES = ("eager", "channels_last", "compile")
PRECISIONS = ("float32", "bfloat16")


def of_paper(authors, discriminator):
  """Return WGAN-GP over a pyramid; the authors' own accepts one image.

  Args:
    authors: their module Losses.
    discriminator: their discriminator, compiled or not.

  Returns:
    A loss in their interface: the mean over the scales of each norm's penalty.
  """

  class WganGp(authors.WGAN_GP):
    def dis_loss(self, real_samps, fake_samps):
      loss = super().dis_loss(real_samps, fake_samps)
      epsilon = torch.rand(len(real_samps[0]), 1, 1, 1)
      mixed = [
        (epsilon * real + (1 - epsilon) * fake).requires_grad_()
        for real, fake in zip(real_samps, fake_samps, strict=True)
      ]
      # torch.compile has no second derivatives: forward() is not compiled.
      scores = self.dis.forward(mixed).sum()
      gradients = torch.autograd.grad(scores, mixed, create_graph=True)
      norms = [g.square().sum(dim=(1, 2, 3)).sqrt() for g in gradients]
      return loss + 10 * torch.stack([(n - 1).square() for n in norms]).mean()

  return WganGp(discriminator)


class Training:
  """The authors' training loop without its data, log and samples."""

  def __init__(self, args):
    sys.path.insert(0, args.source)
    from MSG_GAN import GAN, Losses

    self.args = args
    self.depth = args.resolution.bit_length() - 2
    self.gan = GAN.MSG_GAN(self.depth, args.latent_size)
    self.gan.gen.train()
    self.gan.dis.train()
    options = {"lr": 0.003, "betas": (0.0, 0.99), "eps": 1e-8}
    self.optimizers = [
      torch.optim.Adam(network.parameters(), **options)
      for network in (self.gan.dis, self.gan.gen)
    ]
    if args.mode == "channels_last":
      self.gan.gen.to(memory_format=torch.channels_last)
      self.gan.dis.to(memory_format=torch.channels_last)
    if args.mode == "compile":
      self.gan.gen.compile()
      self.gan.dis.compile()
    self.loss = (
      of_paper(Losses, self.gan.dis)
      if args.loss == "wasserstein"
      else Losses.RelativisticAverageHingeGAN(self.gan.dis)
    )

  def step(self, batch):
    """Take one D and one G step on uint8 reals, (B, 3, R, R)."""
    images = batch.float() / 127.5 - 1
    if self.args.mode == "channels_last":
      images = images.contiguous(memory_format=torch.channels_last)
    pyramid = [images] + [
      functional.avg_pool2d(images, 2**i) for i in range(1, self.depth)
    ]
    pyramid.reverse()
    z = torch.randn(len(batch), self.args.latent_size)
    z = z / z.norm(dim=-1, keepdim=True) * math.sqrt(self.args.latent_size)
    dis_optimizer, gen_optimizer = self.optimizers
    with torch.autocast(
      "cpu", torch.bfloat16, enabled=self.args.precision == "bfloat16"
    ):
      self.gan.optimize_discriminator(dis_optimizer, z, pyramid, self.loss)
      self.gan.optimize_generator(gen_optimizer, z, pyramid, self.loss)


def main():
  """Print the seconds of each step as JSON."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--source", required=True, help="BMSG-GAN/sourcecode")
  parser.add_argument("--mode", choices=MODES, default="eager")
  parser.add_argument("--precision", choices=PRECISIONS, default="float32")
  parser.add_argument("--resolution", type=int, default=32)
  parser.add_argument("--latent_size", type=int, default=128)
  parser.add_argument("--batch_size", type=int, default=16)
  parser.add_argument("--loss", default="relativistic_hinge")
  parser.add_argument("--steps", type=int, default=6)
  args = parser.parse_args()
  if not Path(args.source, "MSG_GAN").is_dir():
    parser.error(f"--source={args.source} has no MSG_GAN; clone BMSG-GAN")
  training = Training(args)
  shape = (args.batch_size, 3, args.resolution, args.resolution)
  batch = torch.randint(0, 256, shape, dtype=torch.uint8)
  secs = []
  for _ in range(2 + args.steps):
    began = time.monotonic()
    training.step(batch)
    secs.append(time.monotonic() - began)
  print(json.dumps({"step_secs": secs[2:]}))


if __name__ == "__main__":
  main()
