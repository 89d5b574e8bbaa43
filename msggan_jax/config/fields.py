"""The table of configuration fields: type, default, bounds, meaning.

`checks.py` validates with it; `docs/reference.py` writes
`configs/default.py` and `docs/configuration.md` from it.
"""

import math

from msggan_jax import models
from msggan_jax.algorithm.augment import NONE, POLICIES
from msggan_jax.algorithm.losses import ADVERSARIAL_LOSSES
from msggan_jax.algorithm.penalties import PENALTIES, SCALE_WEIGHTS
from msggan_jax.algorithm.schedules import SAME
from msggan_jax.config.field_types import (
  Batch,
  Choice,
  Count,
  End,
  Field,
  Number,
  Remat,
  Scales,
  Switch,
  Text,
  Weights,
)
from msggan_jax.data.pixels import CROPS
from msggan_jax.data.sources.labels import KINDS as LABEL_KINDS
from msggan_jax.models import base_grid
from msggan_jax.models.discriminator import COMBINE_FUNCTIONS
from msggan_jax.models.precision import PRECISIONS
from msggan_jax.models.stddev import GROUPINGS, PLACEMENTS

IMAGES = {
  "seed": Count(0, "seed of all randomness", high=2**32 - 1),
  "resolution": Count(
    256,
    "side of the largest scale, in pixels; a power of two",
    shapes_networks=True,
    low=4,
    high=2**14,
  ),
  "base_grid": Text(
    base_grid.SQUARE,
    "rows and columns of the smallest scale, 4 to 7 along the longer side: "
    "3x4 at resolution 256 makes images of 192 rows and 256 columns",
    shapes_networks=True,
  ),
  "channels": Count(
    3, "1 grey, 3 RGB, 4 RGBA", shapes_networks=True, low=1, high=2**10
  ),
  "num_classes": Count(
    0,
    "labels are 0 to num_classes - 1; 0: unconditional",
    shapes_networks=True,
    high=2**20,
  ),
  "dataset.name": Text(
    "",
    "cats, earth, folder, lsun_church, or a TFDS name such as cifar10",
    resumable=True,
  ),
  "dataset.path": Text(
    "", "folder, zip or LMDB; TFDS: its data_dir", resumable=True
  ),
  "dataset.split": Text("train", "split of a TFDS or demo set", resumable=True),
  "dataset.crop": Choice(
    "center",
    "how images of another aspect ratio fit: crop the centre, or add borders",
    resumable=True,
    choices=tuple(CROPS),
  ),
  "dataset.labels": Choice(
    "none",
    "classes of a folder's or zip's images: its sub-folders, or its label "
    "file; or the bodies of the demo's cats",
    resumable=True,
    choices=LABEL_KINDS,
  ),
  "dataset.holdout": Number(
    0.0,
    "images kept from training: a share below 1, or their number; "
    "near-duplicates stay together",
    resumable=True,
  ),
  "dataset.data_dir": Text(
    "data", "folder of the prepared sets", resumable=True
  ),
  "dataset.max_unreadable": Number(
    0.001,
    "share of prepared images that may be damaged, each replaced by the next; "
    "three images in any case; 0: none; beyond it the run ends",
    resumable=True,
    high=1.0,
  ),
  "mirror": Switch(True, "random horizontal flips"),
}

NETWORKS = {
  "model": Choice(
    "progan",
    "MSG-ProGAN; MSG-StyleGAN; residual: MSG-ProGAN with R3GAN's blocks, "
    "without pixel norm",
    shapes_networks=True,
    choices=tuple(models.NAMES),
  ),
  "latent_size": Count(
    512, "dimensions of z", shapes_networks=True, low=1, high=2**16
  ),
  "base_channels": Count(
    16384,
    "width at resolution r: base_channels / r ...",
    shapes_networks=True,
    low=1,
    high=2**24,
  ),
  "max_channels": Count(
    512, "... but at most this", shapes_networks=True, low=1, high=2**16
  ),
  "combine": Choice(
    "simple",
    "phi, which joins a scale's image with the activation from above",
    shapes_networks=True,
    choices=COMBINE_FUNCTIONS,
  ),
  "connected_scales": Scales(
    "all",
    "scales that connect G and D (Table 4); the full one always does",
    shapes_networks=True,
  ),
  "stddev_group": Count(
    4,
    "examples that share a minibatch stddev; 0: all",
    shapes_networks=True,
    high=2**20,
  ),
  "stddev_placement": Choice(
    "every_block",
    "blocks of D that get the minibatch stddev",
    shapes_networks=True,
    choices=PLACEMENTS,
  ),
  "stddev_grouping": Choice(
    "contiguous",
    "neighbours share a group, which has one class if there are classes; or "
    "strided: groups cross the whole batch",
    shapes_networks=True,
    choices=GROUPINGS,
  ),
  "stddev_spatial": Switch(
    False, "average over channels only, not over H and W", shapes_networks=True
  ),
  "linear_gain": Number(
    1.0,
    "gain of to_rgb, from_rgb, the score and lin_cat",
    shapes_networks=True,
    low=-math.inf,
  ),
  "equalized": Switch(
    True,
    "equalized learning rate; else PyTorch's initialisation",
    shapes_networks=True,
  ),
  "pixel_norm": Switch(
    True, "progan: after each 3x3 convolution of G", shapes_networks=True
  ),
  "spectral_norm": Switch(
    False,
    "progan: on the blocks' kernels, in both networks",
    shapes_networks=True,
  ),
  "normalize_latents": Switch(
    True, "not stylegan: project z onto the hypersphere", shapes_networks=True
  ),
  "output_activation": Choice(
    "linear",
    "not stylegan: of the images",
    shapes_networks=True,
    choices=("linear", "tanh"),
  ),
  "w_size": Count(
    512, "stylegan: dimensions of w", shapes_networks=True, low=1, high=2**16
  ),
  "mapping_size": Count(
    512,
    "stylegan: width of the mapping network",
    shapes_networks=True,
    low=1,
    high=2**16,
  ),
  "mapping_layers": Count(
    8,
    "stylegan: layers of the mapping network",
    shapes_networks=True,
    low=1,
    high=2**7,
  ),
}

LOSS = {
  "loss": Choice(
    "wasserstein", "adversarial loss", choices=tuple(ADVERSARIAL_LOSSES)
  ),
  "penalty": Choice(
    "gradient_penalty",
    "penalty of every scale, added to D's loss",
    choices=tuple(PENALTIES),
  ),
  "gp_weight": Number(10.0, "weight of gradient_penalty and one_sided"),
  "r1_gamma": Number(10.0, "R1 on the reals, times gamma / 2"),
  "r1_gamma_end": End(SAME, "r1_gamma after the burn-in"),
  "r2_gamma": Number(10.0, "R2 on the fakes, times gamma / 2"),
  "r2_gamma_end": End(SAME, "r2_gamma after the burn-in"),
  "penalty_scales": Weights(
    "mean",
    "how the scales' penalties add up: mean (the paper); sum; pixels: scale s "
    "weighs (s / resolution)^2; sides: s / resolution; or a weight for each "
    "scale, low to high",
    choices=tuple(SCALE_WEIGHTS),
  ),
  "penalty_derivatives": Choice(
    "total",
    "derivatives in R1: through the pooling of the pyramid, or partial",
    choices=("total", "partial"),
  ),
  "penalty_interval": Count(
    1, "k: penalty at every k-th step, k times as strong", low=1
  ),
  "drift_weight": Number(0.001, "of E r^2 in wasserstein"),
}

AUGMENTATION = {
  "augment": Choice(
    NONE,
    "transformations of all images that D sees; exact: ADA's colours, flips, "
    "quarter turns, shifts and cutouts that keep pyramids exact; auto on the "
    "command line: by the number of images",
    choices=tuple(POLICIES),
  ),
  "augment_strength": Number(
    1.0,
    "probability of each transformation; adaptive: the highest",
    high=1.0,
  ),
  "augment_strength_end": End(
    SAME, "augment_strength after the burn-in", high=1.0
  ),
  "augment_target": Number(
    0.0,
    "adaptive: the strength holds D's overfitting at this, from 0 to 1 (ADA: "
    "0.6, or 0.5 with held-out images); 0: not adaptive",
    high=1.0,
  ),
  "augment_kimg": Number(
    500.0, "adaptive: time from strength 0 to 1, at least", above_low=True
  ),
  "augment_holdout": Text(
    "",
    "adaptive, losses without a zero (wasserstein, relativistic): held-out "
    "images; a folder, a zip or a prepared set, or the split of another set",
    resumable=True,
  ),
}

OPTIMIZATION = {
  "batch_size": Batch(
    32,
    "over all devices; auto: the config file's, or the least possible above it "
    "for the devices; a resumed run keeps its own",
    low=1,
  ),
  "micro_batch_size": Count(
    0,
    "examples that a device holds in memory at a time; 0: all; changes results "
    "only by rounding",
    resumable=True,
  ),
  "total_kimg": Number(
    1000.0, "length of the run", resumable=True, above_low=True
  ),
  "optimizer": Choice(
    "rmsprop", "of both networks", choices=("rmsprop", "adam")
  ),
  "learning_rate": Number(0.003, "of both networks", above_low=True),
  "learning_rate_end": End(
    SAME, "learning_rate after the burn-in", above_low=True
  ),
  "beta1": Number(0.0, "Adam's", high=1.0),
  "beta2": Number(0.99, "Adam's, and RMSprop's decay", high=1.0),
  "beta2_end": End(SAME, "beta2 after the burn-in", high=1.0),
  "ema_kimg": Number(10.0, "half-life of G's moving average; 0: none"),
  "ema_kimg_end": End(SAME, "ema_kimg after the burn-in"),
  "ema_decay": Number(
    0.0, "decay a step, instead of the half-life; 0: not set", high=1.0
  ),
  "ema_averages": Switch(
    False,
    "keep three power-function averages of G at every checkpoint, from which "
    "sample makes the average of any --ema_kimg (Karras et al. 2024)",
  ),
  "burn_in_kimg": Number(
    0.0,
    "fields with an end value reach it after this, along half a cosine; 0: no "
    "schedules",
  ),
  "freeze_d": Count(
    0, "D's first blocks, from the image side, that are not trained", high=16
  ),
  "g_step_latents": Choice(
    "same", "G's update uses D's latents, or fresh", choices=("same", "fresh")
  ),
  "precision": Choice(
    "float32",
    "of the 3x3 convolutions: true float32; float32 as the accelerator "
    "multiplies it by default; activations in bfloat16",
    shapes_networks=True,
    choices=tuple(PRECISIONS),
  ),
  "remat_from": Remat(
    0,
    "blocks from this resolution up recompute their activations for the "
    "derivatives; 0: none; auto: as few as fit, found by compiling",
    shapes_networks=True,
    resumable=True,
  ),
  "max_rollbacks": Count(
    3,
    "attempts from one checkpoint, with new random numbers, after NaN or Inf",
    resumable=True,
  ),
}

RECORDS = {
  "log_kimg": Number(1.0, "between rows of stats.jsonl", resumable=True),
  "sample_kimg": Number(10.0, "between grids of samples", resumable=True),
  "snapshot_kimg": Number(50.0, "between checkpoints", resumable=True),
  "keep": Count(
    3,
    "newest checkpoints that are kept, beside the best and step 0 of a "
    "fine-tuned run",
    resumable=True,
    low=1,
  ),
  "keep_kimg": Number(
    0.0,
    "also keep the first checkpoint after each multiple of this; 0: none",
    resumable=True,
  ),
}

EVALUATION = {
  "eval_kimg": Number(
    200.0, "between evaluations of the moving average", resumable=True
  ),
  "metrics": Text(
    "",
    "names with commas; the first decides which checkpoint is the best; empty: "
    "a Frechet and a kernel distance",
    resumable=True,
  ),
  "inception_path": Text(
    "", "pt_inception-2015-12-05-6726825d.pth", resumable=True
  ),
  "extractor": Text("", "module:function of your own, instead", resumable=True),
  "extractor_precision": Choice(
    "float32",
    "of the extractor's activations",
    resumable=True,
    choices=("float32", "bfloat16"),
  ),
}

SECTIONS = {
  "Images": IMAGES,
  "Networks (paper, section 3.1, Tables 6 and 7)": NETWORKS,
  "Loss (paper, section 3.2)": LOSS,
  "Augmentation (Karras et al. 2020)": AUGMENTATION,
  "Optimization (paper, section 4)": OPTIMIZATION,
  "Logs, samples and checkpoints (0: never)": RECORDS,
  "Evaluation of the moving average (0: never)": EVALUATION,
}
FIELDS: dict[str, Field] = {
  name: field
  for section in SECTIONS.values()
  for name, field in section.items()
}
