"""BMSG-GAN in PyTorch, to compare speeds: the networks and one training step.

Written from the paper and the facts in configs/presets/bmsg_gan.py.
compare_with_pytorch.py runs it; alone:

  python benchmarks/pytorch_bmsg_gan.py --resolution=32
"""

import argparse
import copy
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional

SQRT2 = math.sqrt(2.0)


class EqualizedConv(nn.Module):
  """Convolution with equalized learning rate."""

  def __init__(self, inputs, outputs, size, padding=0):
    super().__init__()
    self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
    self.bias = nn.Parameter(torch.zeros(outputs))
    self.scale = SQRT2 / math.sqrt(inputs * size * size)
    self.padding = padding

  def forward(self, x):
    return functional.conv2d(
      x, self.weight * self.scale, self.bias, padding=self.padding
    )


def leaky_relu(x):
  return functional.leaky_relu(x, 0.2)


def pixel_norm(x):
  return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def resolutions(full):
  return [2**i for i in range(2, full.bit_length())]


class Generator(nn.Module):
  """Latent to one image a scale."""

  def __init__(self, resolution, latent_size, width_at):
    super().__init__()
    width = width_at(4)
    self.dense = nn.Parameter(torch.randn(latent_size, 16 * width))
    self.dense_bias = nn.Parameter(torch.zeros(width))
    self.dense_scale = SQRT2 / math.sqrt(latent_size)
    self.first = EqualizedConv(width, width, 3, 1)
    self.blocks, self.to_rgb = nn.ModuleList(), nn.ModuleList()
    for r in resolutions(resolution):
      if r > 4:
        pair = (EqualizedConv(width, width_at(r), 3, 1),)
        width = width_at(r)
        pair += (EqualizedConv(width, width, 3, 1),)
        self.blocks.append(nn.ModuleList(pair))
      self.to_rgb.append(EqualizedConv(width, 3, 1))

  def forward(self, z):
    x = z @ (self.dense * self.dense_scale)
    x = x.reshape(len(z), 4, 4, -1).permute(0, 3, 1, 2)
    x = leaky_relu(x + self.dense_bias[:, None, None])
    x = pixel_norm(leaky_relu(self.first(x)))
    pyramid = [self.to_rgb[0](x)]
    for convs, to_rgb in zip(self.blocks, self.to_rgb[1:], strict=True):
      x = functional.interpolate(x, scale_factor=2)
      for conv in convs:
        x = pixel_norm(leaky_relu(conv(x)))
      pyramid.append(to_rgb(x))
    return pyramid


class Discriminator(nn.Module):
  """Scores a pyramid: linear equal halves, stddev in the last block."""

  def __init__(self, resolution, width_at):
    super().__init__()
    self.from_rgb, self.blocks = nn.ModuleList(), nn.ModuleList()
    for r in reversed(resolutions(resolution)):
      width = width_at(r)
      half = max(1, width // 2)
      self.from_rgb.append(
        EqualizedConv(3, width if r == resolution else half, 1)
      )
      inputs = width if r == resolution else 2 * half
      if r > 4:
        outputs, size, padding = max(1, width_at(r // 2) // 2), 3, 1
      else:
        inputs, outputs, size, padding = inputs + 1, width, 4, 0
      self.blocks.append(
        nn.ModuleList(
          [
            EqualizedConv(inputs, width, 3, 1),
            EqualizedConv(width, outputs, size, padding),
          ]
        )
      )
    self.score = EqualizedConv(width_at(4), 1, 1)

  def forward(self, pyramid):
    x = None
    levels = zip(self.from_rgb, self.blocks, reversed(pyramid), strict=True)
    for from_rgb, convs, image in levels:
      features = from_rgb(image)
      x = features if x is None else torch.cat([features, x], dim=1)
      if x.shape[2] == 4:
        deviation = x - x.mean(dim=0, keepdim=True)
        stddev = (deviation.square().mean(dim=0) + 1e-8).sqrt().mean()
        x = torch.cat([x, stddev.expand(len(x), 1, 4, 4)], dim=1)
      x = leaky_relu(convs[0](x))
      x = leaky_relu(convs[1](x))
      if x.shape[2] > 1:
        x = functional.avg_pool2d(x, 2)
    return self.score(x)[:, 0, 0, 0]


def d_loss_of(loss, real, fake):
  """Return D's loss without penalty."""
  if loss == "wasserstein":
    return fake.mean() - real.mean() + 0.001 * real.square().mean()
  relu = functional.relu
  return (
    relu(1 - (real - fake.mean())).mean()
    + relu(1 + (fake - real.mean())).mean()
  )


def gradient_penalty(discriminator, reals, fakes):
  """Return WGAN-GP's penalty, averaged over the scales' own norms."""
  epsilon = torch.rand(len(reals[0]), 1, 1, 1)
  mixed = [
    (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    for real, fake in zip(reals, fakes, strict=True)
  ]
  scores = discriminator(mixed).sum()
  gradients = torch.autograd.grad(scores, mixed, create_graph=True)
  norms = [g.square().sum(dim=(1, 2, 3)).sqrt() for g in gradients]
  return torch.stack([(norm - 1).square() for norm in norms]).mean()


class Training:
  """What a step of msggan_jax does, in PyTorch."""

  def __init__(self, args):
    def width_at(r):
      return max(1, min(args.base_channels // r, args.max_channels))

    def rmsprop(network):
      return torch.optim.RMSprop(
        network.parameters(), lr=0.003, alpha=0.99, eps=1e-8
      )

    self.args = args
    self.g = Generator(args.resolution, args.latent_size, width_at)
    self.d = Discriminator(args.resolution, width_at)
    self.ema = copy.deepcopy(self.g).requires_grad_(False)
    self.g_optimizer, self.d_optimizer = rmsprop(self.g), rmsprop(self.d)

  def step(self, batch):
    """Take one D and one G step on uint8 reals, (B, 3, R, R)."""
    args = self.args
    reals = [batch.float() / 127.5 - 1]
    while reals[0].shape[2] > 4:
      reals.insert(0, functional.avg_pool2d(reals[0], 2))
    z = torch.randn(len(batch), args.latent_size)
    z = z * math.sqrt(args.latent_size) / z.norm(dim=1, keepdim=True)
    fakes = self.g(z)
    detached = [fake.detach() for fake in fakes]

    loss = d_loss_of(args.loss, self.d(reals), self.d(detached))
    if args.penalty == "gradient_penalty":
      loss = loss + 10 * gradient_penalty(self.d, reals, detached)
    self.d_optimizer.zero_grad()
    loss.backward()
    self.d_optimizer.step()

    self.d.requires_grad_(False)
    if args.loss == "wasserstein":
      loss = -self.d(fakes).mean()
    else:
      # G's relativistic loss is D's with the roles exchanged.
      loss = d_loss_of(args.loss, self.d(fakes), self.d(reals))
    self.g_optimizer.zero_grad()
    loss.backward()
    self.g_optimizer.step()
    self.d.requires_grad_(True)
    with torch.no_grad():
      pairs = zip(self.ema.parameters(), self.g.parameters(), strict=True)
      for average, value in pairs:
        average.lerp_(value, 0.001)


def main():
  """Print the seconds of each step as JSON."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--resolution", type=int, default=32)
  parser.add_argument("--latent_size", type=int, default=128)
  parser.add_argument("--max_channels", type=int, default=128)
  parser.add_argument("--base_channels", type=int, default=4096)
  parser.add_argument("--batch_size", type=int, default=16)
  parser.add_argument("--loss", default="relativistic_hinge")
  parser.add_argument("--penalty", default="none")
  parser.add_argument("--steps", type=int, default=6)
  args = parser.parse_args()
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
