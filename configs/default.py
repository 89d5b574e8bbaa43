"""Every field with the paper's MSG-ProGAN values; data sets add their own.

Durations are in kimg: thousands of real images shown. Fractions are allowed;
0 turns a periodic action off.

python -m msggan_jax.main --config=configs/default.py:msg_stylegan \
  --config.dataset.name=cifar10 --config.resolution=32
"""

import pathlib
import runpy

from ml_collections import ConfigDict, config_dict

PRESETS = (
  "msg_progan",
  "msg_stylegan",
  "msg_stylegan_official",
  "bmsg_gan",
  "msg_gan_v1",
  "msg_r3",
  "msg_residual",
)


def get_config(preset="msg_progan"):
  """Return a preset's configuration; the data set is missing.

  Raises:
    ValueError: If there is no preset of that name.
  """
  if preset not in PRESETS:
    raise ValueError(
      f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}"
    )
  path = pathlib.Path(__file__).parent / "presets" / f"{preset}.py"
  return runpy.run_path(str(path))["get_config"]()


def get_base_config():
  """Return MSG-ProGAN as the paper trains it; presets start from it.

  Written from the table of fields: `python docs/reference.py`.
  """
  config = ConfigDict()

  # Images.
  config.seed = 0  # seed of all randomness
  # side of the largest scale, in pixels; a power of two
  config.resolution = 256
  # rows and columns of the smallest scale, 4 to 7 along the longer side: 3x4 at
  # resolution 256 makes images of 192 rows and 256 columns
  config.base_grid = "4x4"
  config.channels = 3  # 1 grey, 3 RGB, 4 RGBA
  config.num_classes = 0  # labels are 0 to num_classes - 1; 0: unconditional
  config.dataset = ConfigDict()
  # cats, earth, folder, lsun_church, or a TFDS name such as cifar10
  config.dataset.name = ""
  config.dataset.path = ""  # folder, zip or LMDB; TFDS: its data_dir
  config.dataset.split = "train"  # split of a TFDS or demo set
  # how images of another aspect ratio fit: crop the centre, or add borders: one
  # of center, pad
  config.dataset.crop = "center"
  # classes of a folder's or zip's images: its sub-folders, or its label file;
  # or the bodies of the demo's cats: one of none, folders, labels.csv,
  # dataset.json, bodies
  config.dataset.labels = "none"
  # images kept from training: a share below 1, or their number; near-duplicates
  # stay together
  config.dataset.holdout = 0.0
  config.dataset.data_dir = "data"  # folder of the prepared sets
  # share of prepared images that may be damaged, each replaced by the next;
  # three images in any case; 0: none; beyond it the run ends
  config.dataset.max_unreadable = 0.001
  config.mirror = True  # random horizontal flips

  # Networks (paper, section 3.1, Tables 6 and 7).
  # MSG-ProGAN; MSG-StyleGAN; residual: MSG-ProGAN with R3GAN's blocks, without
  # pixel norm: one of progan, stylegan, residual
  config.model = "progan"
  config.latent_size = 512  # dimensions of z
  config.base_channels = 16384  # width at resolution r: base_channels / r ...
  config.max_channels = 512  # ... but at most this
  # phi, which joins a scale's image with the activation from above: one of
  # simple, lin_cat, cat_lin, lin_cat_equal
  config.combine = "simple"
  # scales that connect G and D (Table 4); the full one always does: one of all,
  # none, coarse, middle, fine or a list of resolutions
  config.connected_scales = config_dict.placeholder(object)
  config.connected_scales = "all"
  config.stddev_group = 4  # examples that share a minibatch stddev; 0: all
  # blocks of D that get the minibatch stddev: one of every_block, last_block,
  # none
  config.stddev_placement = "every_block"
  # neighbours share a group, which has one class if there are classes; or
  # strided: groups cross the whole batch: one of contiguous, strided
  config.stddev_grouping = "contiguous"
  config.stddev_spatial = False  # average over channels only, not over H and W
  config.linear_gain = 1.0  # gain of to_rgb, from_rgb, the score and lin_cat
  # equalized learning rate; else PyTorch's initialisation
  config.equalized = True
  config.pixel_norm = True  # progan: after each 3x3 convolution of G
  # progan: on the blocks' kernels, in both networks
  config.spectral_norm = False
  # not stylegan: project z onto the hypersphere
  config.normalize_latents = True
  # not stylegan: of the images: one of linear, tanh
  config.output_activation = "linear"
  config.w_size = 512  # stylegan: dimensions of w
  config.mapping_size = 512  # stylegan: width of the mapping network
  config.mapping_layers = 8  # stylegan: layers of the mapping network

  # Loss (paper, section 3.2).
  # adversarial loss: one of wasserstein, logistic, hinge, relativistic_hinge,
  # least_squares, relativistic_pairing
  config.loss = "wasserstein"
  # penalty of every scale, added to D's loss: one of none, gradient_penalty,
  # one_sided, r1, r2, r1_r2
  config.penalty = "gradient_penalty"
  config.gp_weight = 10.0  # weight of gradient_penalty and one_sided
  config.r1_gamma = 10.0  # R1 on the reals, times gamma / 2
  # r1_gamma after the burn-in
  config.r1_gamma_end = config_dict.placeholder(object)
  config.r1_gamma_end = "same"
  config.r2_gamma = 10.0  # R2 on the fakes, times gamma / 2
  # r2_gamma after the burn-in
  config.r2_gamma_end = config_dict.placeholder(object)
  config.r2_gamma_end = "same"
  # how the scales' penalties add up: mean (the paper); sum; pixels: scale s
  # weighs (s / resolution)^2; sides: s / resolution; or a weight for each
  # scale, low to high: one of mean, sum, pixels, sides or a list of numbers
  config.penalty_scales = config_dict.placeholder(object)
  config.penalty_scales = "mean"
  # derivatives in R1: through the pooling of the pyramid, or partial: one of
  # total, partial
  config.penalty_derivatives = "total"
  # k: penalty at every k-th step, k times as strong
  config.penalty_interval = 1
  config.drift_weight = 0.001  # of E r^2 in wasserstein

  # Augmentation (Karras et al. 2020).
  # transformations of all images that D sees; exact: ADA's colours, flips,
  # quarter turns, shifts and cutouts that keep pyramids exact; auto on the
  # command line: by the number of images: one of none, diffaugment, exact, ada
  config.augment = "none"
  # probability of each transformation; adaptive: the highest
  config.augment_strength = 1.0
  # augment_strength after the burn-in
  config.augment_strength_end = config_dict.placeholder(object)
  config.augment_strength_end = "same"
  # adaptive: the strength holds D's overfitting at this, from 0 to 1 (ADA: 0.6,
  # or 0.5 with held-out images); 0: not adaptive
  config.augment_target = 0.0
  config.augment_kimg = 500.0  # adaptive: time from strength 0 to 1, at least
  # adaptive, losses without a zero (wasserstein, relativistic): held-out
  # images; a folder, a zip or a prepared set, or the split of another set
  config.augment_holdout = ""

  # Optimization (paper, section 4).
  # over all devices; auto: the config file's, or the least possible above it
  # for the devices; a resumed run keeps its own
  config.batch_size = config_dict.placeholder(object)
  config.batch_size = 32
  # examples that a device holds in memory at a time; 0: all; changes results
  # only by rounding
  config.micro_batch_size = 0
  config.total_kimg = 1000.0  # length of the run
  config.optimizer = "rmsprop"  # of both networks: one of rmsprop, adam
  config.learning_rate = 0.003  # of both networks
  # learning_rate after the burn-in
  config.learning_rate_end = config_dict.placeholder(object)
  config.learning_rate_end = "same"
  config.beta1 = 0.0  # Adam's
  config.beta2 = 0.99  # Adam's, and RMSprop's decay
  # beta2 after the burn-in
  config.beta2_end = config_dict.placeholder(object)
  config.beta2_end = "same"
  config.ema_kimg = 10.0  # half-life of G's moving average; 0: none
  # ema_kimg after the burn-in
  config.ema_kimg_end = config_dict.placeholder(object)
  config.ema_kimg_end = "same"
  config.ema_decay = 0.0  # decay a step, instead of the half-life; 0: not set
  # keep three power-function averages of G at every checkpoint, from which
  # sample makes the average of any --ema_kimg (Karras et al. 2024)
  config.ema_averages = False
  # fields with an end value reach it after this, along half a cosine; 0: no
  # schedules
  config.burn_in_kimg = 0.0
  # D's first blocks, from the image side, that are not trained
  config.freeze_d = 0
  # G's update uses D's latents, or fresh: one of same, fresh
  config.g_step_latents = "same"
  # of the 3x3 convolutions: true float32; float32 as the accelerator multiplies
  # it by default; activations in bfloat16: one of float32, float32_fast,
  # bfloat16
  config.precision = "float32"
  # blocks from this resolution up recompute their activations for the
  # derivatives; 0: none; auto: as few as fit, found by compiling
  config.remat_from = config_dict.placeholder(object)
  config.remat_from = 0
  # attempts from one checkpoint, with new random numbers, after NaN or Inf
  config.max_rollbacks = 3

  # Logs, samples and checkpoints (0: never).
  config.log_kimg = 1.0  # between rows of stats.jsonl
  config.sample_kimg = 10.0  # between grids of samples
  config.snapshot_kimg = 50.0  # between checkpoints
  # newest checkpoints that are kept, beside the best and step 0 of a fine-tuned
  # run
  config.keep = 3
  # also keep the first checkpoint after each multiple of this; 0: none
  config.keep_kimg = 0.0

  # Evaluation of the moving average (0: never).
  config.eval_kimg = 200.0  # between evaluations of the moving average
  # names with commas; the first decides which checkpoint is the best; empty: a
  # Frechet and a kernel distance
  config.metrics = ""
  config.inception_path = ""  # pt_inception-2015-12-05-6726825d.pth
  config.extractor = ""  # module:function of your own, instead
  # of the extractor's activations: one of float32, bfloat16
  config.extractor_precision = "float32"
  return config
